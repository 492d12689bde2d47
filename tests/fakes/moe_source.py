"""A mixture-of-experts model without the rest of a model: random experts and routers, and passes through them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from updraft.engine.experts import Experts, MoeShape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["RandomMoe"]


class RandomMoe:
    """An `updraft.engine.experts.ExpertSource` of SwiGLU experts (gate, up, down) with random weights.

    Attributes:
        broken: (layer, expert) whose weights cannot be read, for tests of failures.
    """

    def __init__(
        self,
        layers: int = 3,
        experts: int = 8,
        active: int = 2,
        *,
        width: int = 16,
        hidden: int = 24,
        vocabulary: int = 64,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        seed: int = 0,
    ) -> None:
        import torch

        kind = dtype or torch.float32
        random = torch.Generator().manual_seed(seed)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=random).mul(size[-1] ** -0.5).to(kind)

        size = 3 * width * hidden * torch.empty((), dtype=kind).itemsize
        self._shape = MoeShape(layers, experts, active, width, hidden, size)
        self._device = torch.device(device)
        self._weights = [
            {"gate": normal(hidden, width), "up": normal(hidden, width), "down": normal(width, hidden)}
            for _ in range(layers * experts)
        ]
        self._routers = [(normal(experts, width) * 4).to(self._device) for _ in range(layers)]
        self._embedding = (torch.randn((vocabulary, width), generator=random).to(kind)).to(self._device)
        self.broken: set[tuple[int, int]] = set()

    @property
    def shape(self) -> MoeShape:
        return self._shape

    @property
    def fingerprint(self) -> str:
        return "random"

    @property
    def device(self) -> torch.device:
        return self._device

    def weights(self, layer: int, expert: int) -> dict[str, Tensor]:
        if (layer, expert) in self.broken:
            raise OSError("the disk is gone")
        return self._weights[layer * self._shape.experts + expert]

    def apply(self, weights: dict[str, Tensor], hidden: Tensor) -> Tensor:
        from torch.nn.functional import linear, silu

        return linear(silu(linear(hidden, weights["gate"])) * linear(hidden, weights["up"]), weights["down"])

    def route(self, layer: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        chances = (hidden @ self._routers[layer].T).float().softmax(-1)
        weights, chosen = chances.topk(self._shape.active, dim=-1)
        return chosen, (weights / weights.sum(-1, keepdim=True)).to(hidden.dtype)

    def embed(self, tokens: Tensor) -> Tensor:
        return self._embedding[tokens.to(self._device)]

    def forward(self, experts: Experts, tokens: Sequence[int]) -> Tensor:
        """A pass through all layers; residual sums stand for what a real model has between its experts."""
        import torch

        ids = torch.tensor(tokens)
        experts.begin(ids)
        try:
            hidden = self.embed(ids)
            for layer in range(self._shape.layers):
                normed = torch.nn.functional.rms_norm(hidden, (self._shape.width,))
                chosen, weights = self.route(layer, normed)
                hidden = hidden + experts.compute(layer, normed, chosen, weights)
            return hidden
        finally:
            experts.end()
