"""Experts in host memory, and slots on the device for those that are in use: the real thing behind the simulation."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from updraft.engine.experts import ExpertSource, MoeShape
from updraft.errors import ConfigError, EngineFailure
from updraft_cloud.experts.carriers import Carrier
from updraft_cloud.experts.costs import Costs, host_share
from updraft_cloud.experts.host_weights import HostWeights, weight_bytes
from updraft_cloud.experts.policies.base import Policy
from updraft_cloud.experts.residency import Copy, Needed, Residency
from updraft_cloud.experts.statistics import ExpertStatistics
from updraft_cloud.experts.together import overlap_of
from updraft_cloud.experts.waiting import WaitingTokens

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["OffloadedExperts", "slots_for"]

_CLOSE_S = 10.0


def slots_for(shape: MoeShape, budget: int, expert_bytes: int) -> int:
    """How many experts a budget of bytes holds; no more than there are.

    Raises ConfigError where it does not hold the experts of one token of one layer.
    """
    if budget < shape.active * expert_bytes:
        raise ConfigError(
            f"A budget of {budget} bytes does not hold the {shape.active} experts of {expert_bytes} bytes that one "
            "token needs in one layer.",
            remedy=f"Give at least {shape.active * expert_bytes} bytes.",
        )
    return min(budget // expert_bytes, shape.layers * shape.experts)


def _room(sample: dict[str, Tensor], slots: int, device: torch.device) -> list[dict[str, Tensor]]:
    """Tensors like an expert's for so many of them; all or none. Raises EngineFailure."""
    import torch

    try:
        return [
            {name: torch.empty_like(values, device=device) for name, values in sample.items()} for _ in range(slots)
        ]
    except (RuntimeError, MemoryError):  # torch has no class of its own for the CPU
        size = weight_bytes(sample)
    raise EngineFailure(
        f"{device} has no room for {slots} experts of {size} bytes each, {slots * size} bytes in all",
        remedy="Give the experts a smaller budget (--expert-budget).",
    )


class OffloadedExperts:
    """An `updraft.engine.experts.Experts` under a budget of device bytes.

    A thread copies experts into slots, one at a time, what is waited for before what is foretold; the engine's thread
    computes those that are there meanwhile. Both follow one book, under one lock. Whatever the budget and the policy,
    an expert sees the same rows and results are added in the order of the experts' numbers, so that the bits are the
    same, as long as all are computed on one device.

    Args:
        policy: makes the policy for a number of slots.
        budget: bytes of experts on the device, never exceeded.
        costs: measured; with `costs.host` an absent expert is computed on the host where that is sooner.
        pinned_bytes: see `HostWeights`.
        group: ask the scheduler to put runs together that are likely to need the same experts.

    Attributes:
        grouping: what it wants of the scheduler.

    Raises:
        ConfigError: the budget is too small.
        EngineFailure: it is larger than the device's free memory.
    """

    def __init__(
        self,
        source: ExpertSource,
        policy: Callable[[MoeShape, int], Policy],
        budget: int,
        carrier: Carrier,
        *,
        costs: Costs | None = None,
        pinned_bytes: int = 1 << 62,
        group: bool = False,
    ) -> None:
        shape, sample = source.shape, source.weights(0, 0)
        slots = slots_for(shape, budget, weight_bytes(sample))
        self._source, self._shape, self._budget, self._carrier = source, shape, budget, carrier
        self._costs = costs
        own = policy(shape, slots)
        self.grouping = overlap_of(own.forecaster) if group else None
        self._book = Residency(shape, slots, own)
        self._tensors = _room(sample, slots, source.device)
        self._host = HostWeights(source, pinned_bytes)
        self._book.statistics.most_bytes = self.device_bytes
        self._changed = threading.Condition()
        self._flight: Copy | None = None
        self._waiting = WaitingTokens()
        self._done: deque[int] = deque()  # experts that the layer in progress is through with
        self._failures: dict[int, Exception] = {}
        self._open = self._closed = False
        self._thread = threading.Thread(target=self._carry_on, name="experts", daemon=True)
        self._thread.start()

    @property
    def statistics(self) -> ExpertStatistics:
        return self._book.statistics

    @property
    def slots(self) -> int:
        return self._book.slots

    @property
    def device_bytes(self) -> int:
        """What the experts on the device take now."""
        return sum(map(weight_bytes, self._tensors))

    def expect(self, tokens: Sequence[int]) -> None:
        if len(tokens):
            with self._changed:
                self._waiting.put(tokens)
                self._book.expect(self._waiting.tokens())
                self._changed.notify_all()

    def begin(self, tokens: Tensor, first: int = 0) -> None:
        self.end()  # of a pass that nobody ended
        with self._changed:
            if self._closed:
                raise EngineFailure("the expert store is closed")
            self._open = True
            self._failures.clear()
            own = tokens.detach().cpu().numpy()
            self._book.begin(own, first)
            self._waiting.begin(own)
            if len(self._waiting):
                self._book.expect(self._waiting.tokens())
            self._changed.notify_all()

    def compute(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        import torch

        choices = chosen.detach().cpu().numpy()
        experts, counts = np.unique(choices, return_counts=True)
        keys = experts.astype(np.int64) + layer * self._shape.experts
        with self._changed:
            needed = self._book.need(layer, keys, choices, lambda: self._look(layer + 1, hidden))
            on_host = self._for_host(needed, dict(zip(keys.tolist(), counts.tolist(), strict=True)))
            for key in needed.absent:
                self._failures.pop(key, None)  # of a prefetch; it is tried again
            self._book.demand(needed.absent)
            self._changed.notify_all()
        # Choices by expert, and those of one expert by row: indices are made here, for a GPU would be waited for.
        order = torch.from_numpy(np.argsort(choices, axis=None, kind="stable")).to(hidden.device)
        places = dict(zip(keys.tolist(), torch.split(order, counts.tolist()), strict=True))
        rows = {key: own // self._shape.active for key, own in places.items()}
        found = {key: self._on_device(key, hidden[rows[key]]) for key in needed.ready}
        found |= {key: self._on_host(key, hidden[rows[key]]) for key in on_host}
        waiting = needed.coming + needed.absent
        while waiting:
            key = self._arrival(waiting)
            waiting.remove(key)
            found[key] = self._on_device(key, hidden[rows[key]])
        with self._changed:
            while self._done:
                self._book.computed(self._done.popleft())
            self._changed.notify_all()
        flat, total = weights.reshape(-1), torch.zeros_like(hidden)
        for key, own in rows.items():
            total.index_add_(0, own, found[key] * flat[places[key]][:, None])
        return total

    def end(self) -> None:
        with self._changed:
            if self._open:
                self._open = False
                self._done.clear()
                self._book.end()
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_S)
        with self._changed:
            self._tensors = []

    def check_integrity(self, *, deep: bool = False) -> None:
        """Raises EngineFailure that says the first thing that is wrong.

        Args:
            deep: also compare the bytes of all experts on the device with the host's.
        """
        with self._changed:
            self._book.check_integrity([] if self._flight is None else [self._flight])
            held = self.device_bytes
            if held > self._budget or held > self.statistics.most_bytes:
                raise EngineFailure(f"experts take {held} bytes of a budget of {self._budget}")
            for key in range(self._shape.layers * self._shape.experts) if deep and not self._closed else ():
                if self._book.ready(key) and not self._same(key):
                    raise EngineFailure(f"the expert store is inconsistent: expert {key} is not what the host has")

    def _same(self, key: int) -> bool:
        there = self._tensors[self._book.slot(key)]
        return all(bool((there[name].cpu() == values).all()) for name, values in self._host.stored(key).items())

    def _look(self, layer: int, hidden: Tensor) -> Any:
        return self._source.route(layer, hidden)[0].detach().cpu().numpy()

    def _for_host(self, needed: Needed, counts: dict[int, int]) -> list[int]:
        """Takes from the absent what the host shall compute."""
        if self._costs is None or self._costs.host is None:
            return []
        waiting_s = self._costs.copy if self._flight is not None else 0.0
        chosen = host_share([counts[key] for key in needed.absent], self._costs, waiting_s)
        own = [key for key, here in zip(needed.absent, chosen, strict=True) if here]
        needed.absent = [key for key, here in zip(needed.absent, chosen, strict=True) if not here]
        self.statistics.on_host += len(own)
        return own

    def _on_device(self, key: int, rows: Tensor) -> Tensor:
        with self._changed:
            if self._closed:
                raise EngineFailure("the expert store is closed")
            slot = self._book.slot(key)
            weights = self._tensors[slot]
        result = self._source.apply(weights, rows)
        self._carrier.used(slot)
        with self._changed:
            self._done.append(key)
            if self._book.short_of_room:
                self._changed.notify_all()
        return result

    def _on_host(self, key: int, rows: Tensor) -> Tensor:
        return self._source.apply(self._host.stored(key), rows.cpu()).to(rows.device)

    def _arrival(self, waiting: Sequence[int]) -> int:
        """The first of the experts to be there. Raises EngineFailure if one cannot come."""
        start = time.perf_counter()
        with self._changed:
            while True:
                for key in waiting:
                    if key in self._failures:
                        raise EngineFailure(f"An expert could not be loaded: {self._failures[key]}")
                    if self._book.ready(key):
                        self.statistics.stall_s += time.perf_counter() - start
                        return key
                if self._closed or not self._thread.is_alive():
                    raise EngineFailure("the expert store is closed")
                self._changed.wait(1.0)

    def _carry_on(self) -> None:
        """The copying thread: the next copy, whatever it is by now, until the store closes."""
        import torch

        with torch.inference_mode(), self._changed:
            while not self._closed:
                copy = self._book.next_copy()
                if copy is None and self._book.short_of_room and self._done:
                    self._book.computed(self._done.popleft())
                    continue
                if copy is None:
                    self._changed.wait()
                    continue
                self._flight = copy
                self._changed.release()
                start = time.perf_counter()
                try:
                    failure = self._carried(copy)
                finally:
                    self._changed.acquire()
                self.statistics.copy_s += time.perf_counter() - start
                self._flight = None
                if failure is None:
                    self._book.arrived(copy)
                else:
                    self._book.failed(copy)
                    self._failures[copy.key] = failure
                self._changed.notify_all()

    def _carried(self, copy: Copy) -> Exception | None:
        try:
            self._carrier.carry(self._host.fetch(copy.key), copy.slot, self._tensors[copy.slot])
        except Exception as error:  # whatever it is, the pass fails and the next one may succeed
            return error
        return None
