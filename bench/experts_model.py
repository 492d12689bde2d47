"""A mixture of experts with random weights and without attention, for measurements of who holds its experts."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from updraft.engine.experts import Experts, MoeShape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Clocked", "SyntheticMoe", "SyntheticSizes", "traffic"]


@dataclass(frozen=True, slots=True)
class SyntheticSizes:
    """Sizes; the dense part of a layer is four square matrices, as those of attention."""

    layers: int
    experts: int
    active: int
    width: int
    hidden: int
    vocabulary: int = 4096


class SyntheticMoe:
    """An `updraft.engine.experts.ExpertSource`, and a `forward` through all its layers.

    Routers see what a token has become in the residual stream, so choices depend on the token and on earlier layers, as
    in trained models; how much they do is not that of any real one.
    """

    def __init__(self, sizes: SyntheticSizes, device: str = "cpu", dtype: str = "float32", seed: int = 0) -> None:
        import torch

        self._kind: torch.dtype = getattr(torch, dtype)
        self._device = torch.device(device)
        self._random = torch.Generator(self._device).manual_seed(seed)
        each = 3 * sizes.width * sizes.hidden * self._kind.itemsize
        self._shape = MoeShape(sizes.layers, sizes.experts, sizes.active, sizes.width, sizes.hidden, each)
        shapes = {"gate": (sizes.hidden, sizes.width), "up": (sizes.hidden, sizes.width)}
        shapes["down"] = (sizes.width, sizes.hidden)
        keys = range(sizes.layers * sizes.experts)
        self._weights = [{name: self._on_host(*size) for name, size in shapes.items()} for _ in keys]
        layers = range(sizes.layers)
        self._dense = [[self._normal(sizes.width, sizes.width) for _ in range(4)] for _ in layers]
        self._routers = [self._normal(sizes.experts, sizes.width) * 4 for _ in layers]
        self._embedding: Tensor = self._normal(sizes.vocabulary, sizes.width) * sizes.width**0.5

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
        """One pass; states after the last layer, shape (tokens, width)."""
        import torch
        from torch.nn.functional import rms_norm

        size = (self._shape.width,)
        ids = torch.tensor(tokens)
        with torch.inference_mode():
            experts.begin(ids)
            try:
                hidden = self.embed(ids)
                for layer, dense in enumerate(self._dense):
                    mixed = rms_norm(hidden, size)
                    for matrix in dense:
                        mixed = torch.tanh(mixed @ matrix.T)
                    hidden = hidden + 0.1 * mixed
                    normed = rms_norm(hidden, size)
                    chosen, weights = self.route(layer, normed)
                    hidden = hidden + experts.compute(layer, normed, chosen, weights)
                return hidden
            finally:
                experts.end()

    def _normal(self, *size: int) -> Tensor:
        import torch

        found = torch.randn(size, generator=self._random, device=self._device, dtype=torch.float32)
        return found.mul_(size[-1] ** -0.5).to(self._kind)

    def _on_host(self, *size: int) -> Tensor:
        """Made on the device, which is faster, and kept in page-locked memory where that is a GPU."""
        import torch

        made = self._normal(*size)
        if self._device.type == "cpu":
            return made
        kept = torch.empty(size, dtype=self._kind, pin_memory=True)
        kept.copy_(made)
        return kept


class Clocked:
    """Passes everything on to `inner` and notes passes, tokens and the time from the first to the last.

    Attributes:
        digest: of all results, if they are to be compared.
    """

    def __init__(self, inner: Experts) -> None:
        self.inner = inner
        self.tokens = self.passes = 0
        self._first: float | None = None
        self._last = 0.0
        self.digest = hashlib.sha256()

    @property
    def seconds(self) -> float:
        return 0.0 if self._first is None else self._last - self._first

    def expect(self, tokens: Sequence[int]) -> None:
        self.inner.expect(tokens)

    def begin(self, tokens: Tensor, first: int = 0) -> None:
        if self._first is None:
            self._first = time.perf_counter()
        self.tokens += len(tokens)
        self.passes += 1
        self.inner.begin(tokens, first)

    def compute(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        return self.inner.compute(layer, hidden, chosen, weights)

    def end(self) -> None:
        self.inner.end()
        self._last = time.perf_counter()

    def close(self) -> None:
        self.inner.close()


def traffic(passes: int, *, together: int, draft: int, vocabulary: int, seed: int = 0) -> list[list[int]]:
    """Token ids of passes: runs of a draft each, of sessions that talk of different things, Zipf within."""
    random = np.random.default_rng(seed)
    sessions = 2 * together
    words = [random.permutation(vocabulary)[: max(8, vocabulary // 16)] for _ in range(sessions)]
    law = 1.0 / np.arange(1, len(words[0]) + 1)
    law /= law.sum()
    found: list[list[int]] = []
    for number in range(passes):
        own: list[Any] = []
        for place in range(together):
            own += random.choice(words[(number * together + place) % sessions], draft, p=law).tolist()
        found.append(own)
    return found
