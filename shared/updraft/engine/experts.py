"""The seam between a mixture-of-experts model and whoever holds its experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["ExpertSource", "Experts", "MakeExperts", "MoeShape"]


@dataclass(frozen=True, slots=True)
class MoeShape:
    """Sizes of a model's routed experts.

    Attributes:
        layers: that have experts, counted from the bottom; dense layers are left out of all numbers here.
        experts: of one layer.
        active: experts that each token chooses.
        width: of the model's hidden states.
        hidden: of an expert.
        expert_bytes: that one expert takes on the device, as it is computed with.
    """

    layers: int
    experts: int
    active: int
    width: int
    hidden: int
    expert_bytes: int


class ExpertSource(Protocol):
    """A loaded checkpoint, as those see it who decide where its experts are."""

    @property
    def shape(self) -> MoeShape: ...

    @property
    def fingerprint(self) -> str:
        """Of the checkpoint's files, whatever type and however many bits they are computed in."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the rest of the model is, and where `hidden` comes from."""
        ...

    def weights(self, layer: int, expert: int) -> dict[str, Tensor]:
        """The expert's tensors in host memory, by name; views of a memory-mapped file where there is one."""
        ...

    def apply(self, weights: dict[str, Tensor], hidden: Tensor) -> Tensor:
        """What one expert makes of hidden states, shape (tokens, width), on the device that the weights are on."""
        ...

    def route(self, layer: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """What a layer's own router chooses for hidden states: expert ids int64, weights; shape (tokens, active)."""
        ...

    def embed(self, tokens: Tensor) -> Tensor:
        """Rows of the embedding matrix, shape (tokens, width)."""
        ...


class Experts(Protocol):
    """Holds the routed experts of one model and computes them. Used from the engine's thread alone.

    The result is the same to the last bit wherever the experts are.
    """

    def expect(self, tokens: Sequence[int]) -> None:
        """These token ids wait for one of the next passes (an edge's draft, a prompt): they may be routed ahead."""
        ...

    def begin(self, tokens: Tensor, first: int = 0) -> None:
        """A pass begins over these token ids, int64, shape (tokens,), at layer `first`: hidden states enter there."""
        ...

    def compute(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """sum over k of weights[t, k] x expert chosen[t, k] of hidden[t], shape (tokens, width).

        Args:
            layer: from the pass's first to `shape.layers` - 1, in order; a pass may end before the last.
            hidden: what the router saw, shape (tokens, width).
            chosen: int64, and `weights`: shape (tokens, active).

        Raises EngineFailure where an expert could not be brought; what is held stays consistent, and the pass is over.
        """
        ...

    def end(self) -> None:
        """The pass is over, also where it failed."""
        ...

    def close(self) -> None:
        """Free what is held. Safe to call twice."""
        ...


MakeExperts = Callable[[ExpertSource], Experts]
