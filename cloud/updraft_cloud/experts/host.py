"""All experts computed on the host, as llama.cpp's `--cpu-moe`: activations travel, weights stay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from updraft.engine.experts import ExpertSource

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HostExperts"]


class HostExperts:
    """An `updraft.engine.experts.Experts` that moves no weights.

    Args:
        slowdown: how many times longer an expert shall take than it does here; stands for a host that is slower than
            the device where both are one.
    """

    def __init__(self, source: ExpertSource, slowdown: float = 1.0) -> None:
        self._source, self._slowdown = source, slowdown

    def expect(self, tokens: Sequence[int]) -> None:
        return None

    def begin(self, tokens: Tensor, first: int = 0) -> None:
        return None

    def compute(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        from updraft.engine.torch_experts import weighted_sum

        start = time.perf_counter()
        total = weighted_sum(
            hidden.cpu(),
            chosen.cpu(),
            weights.cpu(),
            lambda expert, rows: self._source.apply(self._source.weights(layer, expert), rows),
        )
        if self._slowdown > 1.0:
            time.sleep((self._slowdown - 1.0) * (time.perf_counter() - start))
        return total.to(hidden.device)

    def end(self) -> None:
        return None

    def close(self) -> None:
        return None
