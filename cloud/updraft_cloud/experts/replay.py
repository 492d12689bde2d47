"""A trace cut into what the simulator wants of it: the distinct experts of every layer of every pass."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from updraft_cloud.experts.policies.base import Forecast, Forecaster, Ints
from updraft_cloud.experts.trace import RouteTrace, RowKind

__all__ = ["Replay", "union_sizes"]


class Replay:
    """A trace by events; event number = pass x layers + layer.

    Attributes:
        events: keys of the distinct experts, ascending, int64.
        counts: tokens that chose each of them.
        known: for each pass, its tokens that are known while the pass before it is computed: those of prompts and of
            drafts whose session is not in that pass, for a session in it waits for its verdict first.
    """

    def __init__(self, trace: RouteTrace) -> None:
        self.trace, self.shape = trace, trace.shape
        shape = trace.shape
        keys = shape.layers * shape.experts
        layer_keys = trace.routes.astype(np.int64) + np.arange(shape.layers)[:, None] * shape.experts
        flat = trace.row_passes[:, None, None] * keys + layer_keys
        distinct, counts = np.unique(flat, return_counts=True)
        bounds = np.searchsorted(distinct, np.arange(trace.pass_count * shape.layers + 1) * shape.experts)
        self.events: list[Ints] = np.split(distinct % keys, bounds[1:-1])
        self.counts: list[Ints] = np.split(counts, bounds[1:-1])
        self.rows = np.diff(trace.passes).tolist()
        self.tokens: list[Ints] = np.split(trace.tokens, trace.passes[1:-1])
        self.known = self._known()

    @property
    def keys(self) -> int:
        return self.shape.layers * self.shape.experts

    def chosen(self, number: int, layer: int) -> NDArray[np.int64]:
        """What a layer's router chose in a pass, shape (tokens, active)."""
        start, stop = self.trace.passes[number], self.trace.passes[number + 1]
        found: NDArray[np.int64] = self.trace.routes[start:stop, layer].astype(np.int64)
        return found

    def ahead(self, number: int, layer: int) -> Ints | None:
        """What the layer's router chose for the states below it, where the trace has that."""
        if self.trace.ahead is None or layer >= self.shape.layers:
            return None
        start, stop = self.trace.passes[number], self.trace.passes[number + 1]
        return self.trace.ahead[start:stop, layer].astype(np.int64)

    def forecasts(self, forecaster: Forecaster) -> list[Forecast | None]:
        """What a forecaster says over the whole trace, in the order in which the simulator asks."""
        found: list[Forecast | None] = []
        for number in range(len(self.rows)):
            found.append(forecaster.begin(self.tokens[number]))
            if number + 1 < len(self.rows):
                found.append(forecaster.expect(self.known[number + 1]))
            for layer in range(self.shape.layers):
                look = partial(self.ahead, number, layer + 1)
                found.append(forecaster.routed(layer, self.chosen(number, layer), look))
            forecaster.end()
        return found

    def _known(self) -> list[Ints]:
        trace = self.trace
        here = set(zip(trace.row_passes.tolist(), trace.sequences.tolist(), strict=True))
        before = zip((trace.row_passes - 1).tolist(), trace.sequences.tolist(), strict=True)
        waits = np.array([pair in here for pair in before])
        known = (trace.kinds == RowKind.PROMPT) | ~waits
        masks = np.split(known, trace.passes[1:-1])
        return [own[mask] for own, mask in zip(self.tokens, masks, strict=True)]


def union_sizes(trace: RouteTrace) -> NDArray[np.int64]:
    """Distinct experts of every pass, over all its layers, shape (passes,)."""
    replay = Replay(trace)
    sizes = np.array([len(keys) for keys in replay.events], np.int64)
    found: NDArray[np.int64] = sizes.reshape(trace.pass_count, trace.shape.layers).sum(1)
    return found
