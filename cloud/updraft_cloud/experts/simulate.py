"""Discrete events over a trace: what a policy would hit, move and wait for, at a budget.

One link copies one expert at a time and is never interrupted; what is waited for goes first. So a useless prefetch
delays what is needed next, as it does in the store, whose book (`Residency`) and policies these are.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from updraft_cloud.experts.costs import Costs, host_share
from updraft_cloud.experts.policies.base import Policy
from updraft_cloud.experts.replay import Replay
from updraft_cloud.experts.residency import Copy, Needed, Residency
from updraft_cloud.experts.statistics import ExpertStatistics

__all__ = ["Simulated", "simulate"]


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came out.

    Attributes:
        seconds: of all passes; `compute_s` is what they take with all experts on the device, `copy_s` one copy.
        layer_stall_s: time that each layer waited.
    """

    policy: str
    slots: int
    passes: int
    statistics: ExpertStatistics
    seconds: float
    compute_s: float
    copy_s: float
    layer_stall_s: tuple[float, ...]

    @property
    def stall_share(self) -> float:
        """Share of the time that computing waited."""
        return self.statistics.stall_s / self.seconds if self.seconds else 0.0

    def row(self) -> dict[str, Any]:
        """As a flat record for tables and JSON."""
        counts = self.statistics
        return {
            "policy": self.policy,
            "slots": self.slots,
            "device_bytes": self.slots * counts.expert_bytes,
            "hit_rate": counts.hit_rate,
            "late_share": counts.late / max(1, counts.needed),
            "loads": counts.loaded,
            "bytes_moved": counts.bytes_moved,
            "prefetched": counts.prefetched,
            "useful_share": counts.useful / counts.prefetched if counts.prefetched else None,
            "on_host": counts.on_host,
            "stall_s": counts.stall_s,
            "stall_share": self.stall_share,
            "seconds": self.seconds,
            "ms_per_pass": 1e3 * self.seconds / max(1, self.passes),
            "layer_hit_rate": [own.hits / max(1, own.hits + own.late + own.misses) for own in counts.layers],
            "layer_stall_s": list(self.layer_stall_s),
        }


def simulate(replay: Replay, policy: Policy, slots: int, costs: Costs) -> Simulated:
    """Run a trace through a policy with this many slots. The policy is used up: make a new one for each run."""
    return _Run(replay, policy, slots, costs).whole()


class _Run:
    def __init__(self, replay: Replay, policy: Policy, slots: int, costs: Costs) -> None:
        self._replay, self._costs = replay, costs
        self._book = Residency(replay.shape, slots, policy)
        self._time = self._compute = 0.0
        self._stalls = [0.0] * replay.shape.layers
        self._link_free = self._since = 0.0  # when the link is free, and since when it may have work
        self._flight: Copy | None = None

    def whole(self) -> Simulated:
        replay, book = self._replay, self._book
        for number, rows in enumerate(replay.rows):
            self._advance(self._time)
            book.begin(replay.tokens[number])
            if number + 1 < len(replay.rows):
                book.expect(replay.known[number + 1])
            for layer in range(replay.shape.layers):
                self._time += self._costs.dense(rows)
                self._compute += self._costs.dense(rows)
                self._advance(self._time)
                self._layer(number, layer)
            book.end()
        book.check_integrity([] if self._flight is None else [self._flight])
        counts = book.statistics
        counts.stall_s = sum(self._stalls)
        counts.most_bytes = book.slots * counts.expert_bytes
        name, passes = book.policy.name, len(replay.rows)
        stalls, copy_s = tuple(self._stalls), self._costs.copy
        return Simulated(name, book.slots, passes, counts, self._time, self._compute, copy_s, stalls)

    def _layer(self, number: int, layer: int) -> None:
        replay, book, costs = self._replay, self._book, self._costs
        event = number * replay.shape.layers + layer
        keys = replay.events[event]
        tokens = dict(zip(keys.tolist(), replay.counts[event].tolist(), strict=True))
        needed = book.need(layer, keys, replay.chosen(number, layer), lambda: replay.ahead(number, layer + 1))
        start = self._time
        on_host = self._take_host(needed, tokens)
        book.demand(needed.absent)
        done, freed = start, deque[tuple[float, int]]()
        for key in needed.ready:
            done += costs.device(tokens[key])
            freed.append((done, key))
        for key in (*needed.coming, *needed.absent):
            arrival = self._bring(key, freed)
            done = max(done, arrival) + costs.device(tokens[key])
            freed.append((done, key))
        for _, key in freed:
            book.computed(key)
        busy = sum(costs.device(tokens[key]) for _, key in freed)
        self._time = max(done, start + on_host)
        self._compute += busy
        self._stalls[layer] += self._time - start - busy

    def _take_host(self, needed: Needed, tokens: dict[int, int]) -> float:
        """Take from the absent what the host shall compute; its seconds."""
        costs = self._costs
        if costs.host is None or not needed.absent:
            return 0.0
        taken = max(0.0, self._link_free - self._time) if self._flight else 0.0
        on_host = host_share([tokens[key] for key in needed.absent], costs, taken)
        own = [key for key, here in zip(needed.absent, on_host, strict=True) if here]
        needed.absent = [key for key, here in zip(needed.absent, on_host, strict=True) if not here]
        self._book.statistics.on_host += len(own)
        return sum(costs.host(tokens[key]) for key in own)

    def _advance(self, until: float) -> None:
        """Let the link work until a moment."""
        while True:
            if self._flight is not None:
                if self._link_free > until:
                    return
                self._land()
            start = max(self._link_free, self._since)
            copy = self._book.next_copy() if start < until else None
            if copy is None:
                self._since = until
                return
            self._depart(copy, start)

    def _bring(self, key: int, freed: deque[tuple[float, int]]) -> float:
        """When an expert is there, which is waited for; experts that are through make room where none is."""
        while not self._book.ready(key):
            if self._flight is not None:
                self._land()
                continue
            copy = self._book.next_copy()
            if copy is None:
                moment, through = freed.popleft()
                self._book.computed(through)
                self._since = max(self._since, moment)
            else:
                self._depart(copy, max(self._link_free, self._since))
        return self._link_free

    def _depart(self, copy: Copy, start: float) -> None:
        self._flight, self._link_free = copy, start + self._costs.copy

    def _land(self) -> None:
        assert self._flight is not None  # noqa: S101 (both callers look)
        self._book.arrived(self._flight)
        self._flight = None
