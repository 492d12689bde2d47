"""The book of who is on the device: slots, what is needed, what comes next. No tensors, no clock, no threads.

The simulator and the store both follow it, so what is simulated is what runs. It is used by one thread at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from updraft.engine.experts import MoeShape
from updraft.errors import EngineFailure
from updraft_cloud.experts.policies.base import Forecast, Ints, Look, Policy
from updraft_cloud.experts.statistics import ExpertStatistics

__all__ = ["Copy", "Needed", "Residency"]


class Copy(NamedTuple):
    """An expert that is to be copied into a slot."""

    key: int
    slot: int
    demand: bool


@dataclass(slots=True)
class Needed:
    """What a layer needs: what is there, what is on its way, and what nobody has sent for."""

    ready: list[int] = field(default_factory=list)
    coming: list[int] = field(default_factory=list)
    absent: list[int] = field(default_factory=list)


class Residency:
    """Slots for experts under a policy.

    A pass is `begin`, for each layer `need`, `demand` for what shall be loaded and `computed` for each expert, and
    `end`. Whoever copies asks `next_copy` and says `arrived` or `failed`.
    """

    def __init__(self, shape: MoeShape, slots: int, policy: Policy) -> None:
        if not slots >= 1:
            raise EngineFailure("experts need at least one slot")
        keys = shape.layers * shape.experts
        self.shape, self.slots, self.policy = shape, slots, policy
        self.statistics = ExpertStatistics.of(shape)
        self._slot = np.full(keys, -1, np.int32)
        self._ready = np.zeros(keys, np.bool_)
        self._pinned = np.zeros(keys, np.bool_)
        self._evictable = np.zeros(keys, np.bool_)  # ready and not pinned
        self._unused = np.zeros(keys, np.bool_)  # prefetched, and not needed since
        self._mistaken = np.zeros(keys, np.bool_)  # foretold for a layer that did not choose them
        self._any_mistaken = False
        self._free = list(range(slots))[::-1]
        self._demand: deque[int] = deque()
        self._now = _Wanted(keys)
        self._later = _Wanted(keys)

    def slot(self, key: int) -> int:
        """Where an expert is, or is coming to; -1 if nowhere."""
        return int(self._slot[key])

    def ready(self, key: int) -> bool:
        """Whether it can be computed with."""
        return bool(self._ready[key])

    def expect(self, tokens: Ints) -> None:
        """Tokens that wait for a later pass."""
        self._foretold(self.policy.forecaster.expect(tokens), later=True)

    def begin(self, tokens: Ints, first: int = 0) -> None:
        """A pass begins at a layer; what was foretold for those below it is not wanted in it."""
        self._now, self._later = self._later, self._now
        self._later.clear()
        self.policy.replacement.begin()
        self._foretold(self.policy.forecaster.begin(tokens), later=False)
        self._now.passed(slice(0, first * self.shape.experts))

    def need(self, layer: int, keys: Ints, chosen: Ints, look: Look) -> Needed:
        """A layer's router chose: pins what is there or coming, and takes note for the policy.

        Args:
            keys: of the distinct experts, ascending.
            chosen: experts by token, shape (tokens, active).
        """
        found = Needed()
        counts = self.statistics.layers[layer]
        first = layer * self.shape.experts
        own = slice(first, first + self.shape.experts)
        foretold = self._now.wanted[own] & self._ready[own] & self._unused[own]
        for key in keys.tolist():
            if self._slot[key] < 0:
                found.absent.append(key)
                continue
            self._pinned[key] = True
            self._evictable[key] = False
            self._settle(key, useful=True)
            (found.ready if self._ready[key] else found.coming).append(key)
        if foretold.any():
            self._any_mistaken = True
            self._mistaken[own] |= foretold
        self._mistaken[keys] = False
        counts.hits += len(found.ready)
        counts.late += len(found.coming)
        counts.misses += len(found.absent)
        self.policy.replacement.used(layer, keys)
        self._now.passed(own)
        self._foretold(self.policy.forecaster.routed(layer, chosen, look), later=False)
        return found

    def demand(self, keys: Iterable[int]) -> None:
        """These are waited for: they come before all prefetches."""
        self._demand.extend(keys)

    @property
    def short_of_room(self) -> bool:
        """Whether `next_copy` gave nothing because all slots hold what the layer is not through with."""
        return bool(self._demand)

    def computed(self, key: int) -> None:
        """An expert may go now. Say so when a layer is done, or before that where it is `short_of_room`."""
        self._pinned[key] = False
        self._evictable[key] = self._ready[key]

    def end(self) -> None:
        """The pass is over, also where it failed: nothing is waited for, nothing is pinned."""
        self._demand.clear()
        self._evictable |= self._pinned & self._ready
        self._pinned[:] = False
        self._now.clear()
        self.policy.forecaster.end()

    def next_copy(self) -> Copy | None:
        """What is to be copied next, with room made for it; None if nothing, or if nothing may go for it."""
        while self._demand:
            key = self._demand[0]
            if self._slot[key] >= 0:  # a prefetch was faster
                self._demand.popleft()
                continue
            slot = self._room(key, prefetch=False)
            if slot < 0:
                return None
            self._demand.popleft()
            self._pinned[key] = True
            return self._start(key, slot, demand=True)
        for wanted in (self._now, self._later):
            while (key := wanted.pop()) >= 0:
                if self._slot[key] >= 0:
                    continue
                slot = self._room(key, prefetch=True)
                if slot >= 0:
                    return self._start(key, slot, demand=False)
                wanted.stop()
        return None

    def arrived(self, copy: Copy) -> None:
        """A copy is there."""
        self._ready[copy.key] = True
        self._evictable[copy.key] = not self._pinned[copy.key]
        self.policy.replacement.loaded(copy.key)

    def failed(self, copy: Copy) -> None:
        """A copy did not come: its slot is free again."""
        self._unused[copy.key] = self._pinned[copy.key] = False
        self._slot[copy.key] = -1
        self._free.append(copy.slot)
        self.statistics.failures += 1

    def check_integrity(self, coming: Sequence[Copy] = ()) -> None:
        """Raises EngineFailure that says the first thing that is wrong.

        Args:
            coming: copies that have been started and not yet ended.
        """
        held = self._slot[self._slot >= 0].tolist()
        moving = {copy.key: copy.slot for copy in coming}
        unready = np.nonzero((self._slot >= 0) & ~self._ready)[0].tolist()
        faults = {
            "a slot is held twice, or free and held": sorted(held + self._free) != list(range(self.slots)),
            "an expert without a slot counts as there": bool((self._ready & (self._slot < 0)).any()),
            "what may go and what is pinned disagree": bool((self._evictable != (self._ready & ~self._pinned)).any()),
            "what is on its way is not what is being copied": {key: self.slot(key) for key in unready} != moving,
        }
        for fault, present in faults.items():
            if present:
                raise EngineFailure(f"the expert store is inconsistent: {fault}")

    def _foretold(self, forecast: Forecast | None, *, later: bool) -> None:
        if forecast is not None:
            (self._later if later else self._now).put(forecast, self.policy.gate)
            self.policy.replacement.foretold(forecast, later=later)

    def _start(self, key: int, slot: int, *, demand: bool) -> Copy:
        self._slot[key] = slot
        self._unused[key] = not demand
        self._mistaken[key] = False
        self.statistics.loaded += 1
        self.statistics.prefetched += not demand
        return Copy(key, slot, demand)

    def _room(self, key: int, *, prefetch: bool) -> int:
        """A slot for an expert; -1 if none can be had.

        What was foretold wrongly goes first, what is still foretold last, and for a prefetch not at all.
        """
        if self._free:
            return self._free.pop()
        rest = self._evictable
        if self._now.any or self._later.any:
            rest = rest & ~(self._now.wanted | self._later.wanted)
        masks = [rest] if prefetch or rest is self._evictable else [rest, self._evictable]
        if self._any_mistaken:
            mistaken = rest & self._mistaken
            self._any_mistaken = bool(mistaken.any())
            masks = [mistaken, *masks] if self._any_mistaken else masks
        for mask in masks:
            victim = self.policy.replacement.victim(key, mask, prefetch=prefetch)
            if victim < 0:
                return -1
            if mask[victim]:
                return self._evict(victim)
        return -1

    def _evict(self, key: int) -> int:
        slot = int(self._slot[key])
        self._slot[key] = -1
        self._ready[key] = self._evictable[key] = self._mistaken[key] = False
        self._settle(key, useful=False)
        self.statistics.evictions += 1
        return slot

    def _settle(self, key: int, *, useful: bool) -> None:
        if self._unused[key]:
            self._unused[key] = False
            self.statistics.useful += useful
            self.statistics.useless += not useful


class _Wanted:
    """Experts that are foretold for one pass, the most urgent first."""

    def __init__(self, keys: int) -> None:
        self.wanted = np.zeros(keys, np.bool_)
        self.any = False
        self._queue: list[int] = []  # the most urgent last

    def put(self, forecast: Forecast, gate: float) -> None:
        """In place of what was foretold before."""
        keys = forecast.keys[forecast.chances >= gate]
        self.wanted[:] = False
        self.wanted[keys] = True
        self._queue = keys[::-1].tolist()
        self.any = bool(self._queue)

    def pop(self) -> int:
        """The most urgent that has not been taken yet; -1 if there is none. It stays wanted."""
        while self._queue:
            key = self._queue.pop()
            if self.wanted[key]:
                return key
        return -1

    def stop(self) -> None:
        """There was no room worth taking: none is looked for on behalf of what is less urgent."""
        self._queue = []

    def passed(self, keys: slice) -> None:
        """These are not waited for any more."""
        self.wanted[keys] = False

    def clear(self) -> None:
        self.wanted[:] = self.any = False
        self._queue = []
