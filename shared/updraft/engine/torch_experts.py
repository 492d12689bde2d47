"""Routed experts that all stay on the model's device, and the sum that every holder of experts must give."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from updraft.engine.experts import ExpertSource

__all__ = ["ResidentExperts", "weighted_sum"]


def weighted_sum(hidden: Tensor, chosen: Tensor, weights: Tensor, compute: Callable[[int, Tensor], Tensor]) -> Tensor:
    """See `Experts.compute`: experts one after the other in the order of their numbers, so that the bits are the same.

    Args:
        hidden: shape (tokens, width).
        chosen: int64, and `weights`: shape (tokens, active).
        compute: what the expert of a number makes of some rows of `hidden`.
    """
    total = torch.zeros_like(hidden)
    for expert in torch.unique(chosen).tolist():
        rows, places = torch.nonzero(chosen == expert, as_tuple=True)
        total.index_add_(0, rows, compute(expert, hidden[rows]) * weights[rows, places][:, None])
    return total


class ResidentExperts:
    """An `updraft.engine.experts.Experts` with all experts on the model's device."""

    def __init__(self, source: ExpertSource) -> None:
        shape = source.shape
        self._source = source
        self._held = [
            [self._brought(source.weights(layer, expert)) for expert in range(shape.experts)]
            for layer in range(shape.layers)
        ]

    def expect(self, tokens: Sequence[int]) -> None:
        """All experts are there."""

    def begin(self, tokens: Tensor, first: int = 0) -> None:
        """All experts are there."""

    def compute(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        held = self._held[layer]
        return weighted_sum(hidden, chosen, weights, lambda expert, rows: self._source.apply(held[expert], rows))

    def end(self) -> None:
        """Nothing was reserved."""

    def close(self) -> None:
        self._held = []

    def _brought(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: values.to(self._source.device) for name, values in weights.items()}
