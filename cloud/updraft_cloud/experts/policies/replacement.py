"""Which expert makes room: by age, by frequency, by layer, and by knowing the future."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from updraft.engine.experts import MoeShape
from updraft_cloud.experts.policies.base import Bools, Forecast, Ints

__all__ = ["Clairvoyant", "Expected", "Frequency", "LayerRecency", "LayerSlots", "Recency", "next_uses"]

NEVER = np.iinfo(np.int64).max


class Recency:
    """Least recently used, over all layers."""

    def __init__(self, shape: MoeShape) -> None:
        self._stamps = np.zeros(shape.layers * shape.experts, np.int64)
        self._now = 0

    def begin(self) -> None:
        return None

    def foretold(self, forecast: Forecast, *, later: bool) -> None:
        return None

    def used(self, layer: int, keys: Ints) -> None:
        self._now += 1
        self._stamps[keys] = self._now

    def loaded(self, key: int) -> None:
        self._stamps[key] = self._now

    def victim(self, key: int, evictable: Bools, *, prefetch: bool) -> int:
        return int(np.where(evictable, self._stamps, NEVER).argmin())


class LayerRecency(Recency):
    """Least recently used in the layer that wants room, where it has its even share of slots (mixtral-offloading).

    A layer below its share takes from the layer that holds most.
    """

    def __init__(self, shape: MoeShape, slots: int) -> None:
        super().__init__(shape)
        self._layers, self._experts = shape.layers, shape.experts
        self._share = slots / shape.layers

    def victim(self, key: int, evictable: Bools, *, prefetch: bool) -> int:
        rows = evictable.reshape(self._layers, self._experts)
        held = rows.sum(1)
        layer = key // self._experts
        if held[layer] == 0 or held[layer] < int(self._share):
            layer = int(held.argmax())
        start = layer * self._experts
        stamps = np.where(rows[layer], self._stamps[start : start + self._experts], NEVER)
        return start + int(stamps.argmin())


class Frequency:
    """Least frequently used, where a use counts half after `half_life` passes."""

    def __init__(self, shape: MoeShape, half_life: float = 64.0) -> None:
        self._scores = np.zeros(shape.layers * shape.experts)
        self._growth = 2.0 ** (1.0 / half_life)
        self._weight = 1.0

    def foretold(self, forecast: Forecast, *, later: bool) -> None:
        return None

    def begin(self) -> None:
        # Growing what a use adds is the same as letting all others shrink, and costs nothing.
        self._weight *= self._growth
        if self._weight > 1e100:
            self._scores /= self._weight
            self._weight = 1.0

    def used(self, layer: int, keys: Ints) -> None:
        self._scores[keys] += self._weight

    def loaded(self, key: int) -> None:
        return None

    def victim(self, key: int, evictable: Bools, *, prefetch: bool) -> int:
        return int(np.where(evictable, self._scores, np.inf).argmin())


class LayerSlots(Frequency):
    """Slots for each layer in proportion to the experts that it will need (PLEC; ExpertFlow, arXiv 2410.17954).

    What a layer will need comes from the forecast, or from what it needed in the last passes. A layer that is through
    for this pass gives up its experts before those that are still to come do: they are the last to be wanted again.
    """

    def __init__(self, shape: MoeShape, slots: int, half_life: float = 64.0) -> None:
        super().__init__(shape, half_life)
        self._shape, self._slots = shape, slots
        self._active = np.full(shape.layers, float(shape.active))
        self._quota = np.full(shape.layers, slots / shape.layers)
        self._layer = -1

    def begin(self) -> None:
        super().begin()
        self._layer = -1
        self._quota = self._slots * self._active / self._active.sum()

    def foretold(self, forecast: Forecast, *, later: bool) -> None:
        layers = self._shape.layers
        expected = np.bincount(forecast.keys // self._shape.experts, forecast.chances, minlength=layers)
        if not later and expected.all():  # a forecast of one layer says nothing of the others' shares
            self._quota = self._slots * expected / expected.sum()

    def used(self, layer: int, keys: Ints) -> None:
        super().used(layer, keys)
        self._layer = layer
        self._active[layer] += 0.1 * (len(keys) - self._active[layer])

    def victim(self, key: int, evictable: Bools, *, prefetch: bool) -> int:
        shape = self._shape
        rows = evictable.reshape(shape.layers, shape.experts)
        held = rows.sum(1)
        over = held - self._quota
        over[held == 0] = -np.inf
        passed = over[: max(self._layer, 0)]
        if len(passed) and passed.max() > 0.0:
            layer = int(passed.argmax())
        elif over.max() > 0.0 or not held[key // shape.experts]:
            layer = int(over.argmax())
        else:
            layer = key // shape.experts
        start = layer * shape.experts
        scores = np.where(rows[layer], self._scores[start : start + shape.experts], np.inf)
        return start + int(scores.argmin())


class Expected:
    """Evicts what is expected to be used last: Belady's rule on estimates.

    A layer comes round once a pass, so an expert whose layer is d layers away, and which a pass needs with chance f, is
    next used after d + (1 - p) L / f layers, where p is its chance when its layer comes next: the forecast's, or f.

    Args:
        memory: passes over which f is averaged.
    """

    def __init__(self, shape: MoeShape, memory: float = 64.0) -> None:
        self._shape = shape
        keys = shape.layers * shape.experts
        self._layer_of = np.arange(keys) // shape.experts
        self._rate = np.full(keys, shape.active / shape.experts)
        self._decay = 1.0 / memory
        self._now, self._later = np.full(keys, np.nan), np.full(keys, np.nan)  # chances, nan where none is foretold
        self._layer = -1
        self._waits: NDArray[np.float64] | None = None

    def begin(self) -> None:
        self._now, self._later = self._later, self._now
        self._later[:] = np.nan
        self._layer = -1
        self._waits = None

    def foretold(self, forecast: Forecast, *, later: bool) -> None:
        experts = self._shape.experts
        chances = self._later if later else self._now
        covered = np.zeros(self._shape.layers, np.bool_)
        covered[forecast.keys // experts] = True
        # Later passes may have tokens that nobody knows of yet, so what is foretold of them only adds.
        chances[np.repeat(covered, experts)] = 0.0
        chances[forecast.keys] = forecast.chances
        if later:
            chances[:] = np.fmax(chances, self._rate)
        self._waits = None

    def used(self, layer: int, keys: Ints) -> None:
        own = slice(layer * self._shape.experts, (layer + 1) * self._shape.experts)
        self._rate[own] *= 1.0 - self._decay
        self._rate[keys] += self._decay
        self._now[own] = np.nan
        self._layer = layer
        self._waits = None

    def loaded(self, key: int) -> None:
        return None

    def victim(self, key: int, evictable: Bools, *, prefetch: bool) -> int:
        waits = self._waits
        if waits is None:
            waits = self._waits = self._expected()
        found = int(np.where(evictable, waits, -1.0).argmax())
        return -1 if prefetch and waits[found] <= waits[key] else found

    def _expected(self) -> NDArray[np.float64]:
        """Layers until each key is used next."""
        layers = self._shape.layers
        ahead = self._layer_of - self._layer
        distance = np.where(ahead > 0, ahead, ahead + layers)
        rate = np.maximum(self._rate, 1e-4)
        foretold = np.where(ahead > 0, self._now, self._later)
        chance = np.where(np.isnan(foretold), rate, foretold)
        waits: NDArray[np.float64] = distance + (1.0 - np.minimum(chance, 1.0)) * layers / rate
        return waits


def next_uses(events: list[Ints], keys: int) -> list[Ints]:
    """For each event, at which later event its keys are used next; `NEVER` where they are not.

    Args:
        events: keys that each layer of each pass needs, in order.
        keys: how many there are.
    """
    following = np.full(keys, NEVER, np.int64)
    found: list[Ints] = [np.empty(0, np.int64)] * len(events)
    for number in range(len(events) - 1, -1, -1):
        used = events[number]
        found[number] = following[used]
        following[used] = number
    return found


class Clairvoyant:
    """Evicts what is used last (Belady, 1966), from a trace that says what is used when.

    All experts take the same room, every expert that a layer needs must come to the device, and the experts of one
    layer are wanted together; that is a sequence which asks for them in turn over and over until all are there, so the
    classic proof holds: no policy that computes on the device loads fewer experts, whether it prefetches or not, for a
    prefetch can always be put off until it is needed. It bounds loads and bytes; it does not bound stalls, and not
    policies that compute some experts on the host. Where a layer needs more than there are slots it is near the bound.

    Args:
        uses: from `next_uses`.
        first: event at which each key is used first; `NEVER` where it is not.
    """

    def __init__(self, uses: list[Ints], first: Ints) -> None:
        self._uses = uses
        self._next = first.copy()
        self._event = 0

    def begin(self) -> None:
        return None

    def foretold(self, forecast: Forecast, *, later: bool) -> None:
        return None

    def used(self, layer: int, keys: Ints) -> None:
        self._next[keys] = self._uses[self._event]
        self._event += 1

    def loaded(self, key: int) -> None:
        return None

    def victim(self, key: int, evictable: Bools, *, prefetch: bool) -> int:
        found = int(np.where(evictable, self._next, -1).argmax())
        return -1 if prefetch and self._next[found] <= self._next[key] else found
