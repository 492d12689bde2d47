"""The cloud of a simulation: one engine that takes what is waiting into shared passes, in simulated time."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from updraft.engine.scheduler import Priority
from updraft_cloud.engine.crowd import Crowd

from .pass_curve import PassCurve

__all__ = ["Job", "SimulatedCloud", "Time"]

_SETTLE_S: Final = 1.0  # of the load, as in `updraft_cloud.engine.costs`


class Time:
    """Simulated seconds, and what is to happen when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Do something then, or now if that is past; what is due together happens in the order in which it was said."""
        heapq.heappush(self._due, (max(when, self.now), next(self._order), what))

    def run(self) -> None:
        """Until nothing is left to happen."""
        while self._due:
            self.now, _, what = heapq.heappop(self._due)
            what()


@dataclass(slots=True, eq=False)
class Job:
    """Positions of one session that wait for a pass.

    Attributes:
        rows: of the positions, how many want their logits (the last ones).
        done: called after the pass that computed the last of them; after each token of a span.
        tokens: of a span: so many passes over one position.
        draft_s: time of the engine itself before the pass, for drafts that are made where the model is.
        accepted: of a draft, tokens that stand.
    """

    priority: Priority
    positions: int
    rows: int
    done: Callable[[], None]
    tokens: int = 1
    draft_s: float = 0.0
    accepted: int = 0
    asked: float = field(default=0.0)


class SimulatedCloud:
    """One engine. Passes as `EngineLoop`'s: verifications, then writing, then prefills, each by who waits longest;
    one prefill always has a place.

    Args:
        sequences: runs in a pass, at most.
        turn_s: of a pass, besides what the curve says: the loop around it, messages, the network's stack.
    """

    def __init__(
        self,
        time: Time,
        curve: PassCurve,
        *,
        sequences: int,
        pass_tokens: int = 256,
        chunk: int = 48,
        turn_s: float = 0.0,
    ) -> None:
        self.time = time
        self.curve = curve
        self.sessions = 0  # open
        self.crowd = Crowd(lambda: time.now)
        self.passes = self.positions = 0
        self.busy_s = 0.0
        self._sequences = sequences
        self._pass_tokens = pass_tokens
        self._chunk = chunk
        self._turn_s = turn_s
        self._waiting: deque[Job] = deque()
        self._running = False
        self._load, self._seen = 0.0, 0.0

    @property
    def load(self) -> float:
        """Share of the recent time that passes took."""
        return self._load * math.exp(-(self.time.now - self._seen) / _SETTLE_S)

    def submit(self, job: Job) -> None:
        """Compute a job in the passes to come."""
        job.asked = self.time.now
        self._waiting.append(job)
        if not self._running:
            self._start()

    def _start(self) -> None:
        batch = self._schedule()
        if not batch:
            return
        self._running = True
        positions = sum(size for _, size in batch)
        rows = sum(max(0, min(size, job.rows - (job.positions - size))) for job, size in batch)
        seconds = self._turn_s + self.curve.seconds(len(batch), positions, rows) + max(job.draft_s for job, _ in batch)
        self.passes += 1
        self.positions += positions
        self.crowd.computed(sum(size for job, size in batch if job.priority is Priority.PREFILL))
        self.busy_s += seconds
        self.time.at(self.time.now + seconds, lambda: self._end(batch, seconds))

    def _end(self, batch: list[tuple[Job, int]], seconds: float) -> None:
        self._running = False
        self._note_load(seconds)
        for job, size in batch:
            job.positions -= size
            if job.positions == 0:
                job.tokens -= 1
                job.positions = min(1, job.tokens)
                job.done()
            if job.positions:
                job.asked = self.time.now
                self._waiting.append(job)
        if not self._running:
            self._start()

    def _schedule(self) -> list[tuple[Job, int]]:
        waiting = sorted(self._waiting, key=lambda job: (job.priority, job.asked))
        room, places = self._pass_tokens, self._sequences
        batch: list[tuple[Job, int]] = []
        prefill = next((job for job in waiting if job.priority is Priority.PREFILL), None)
        if prefill is not None:
            waiting.remove(prefill)
            waiting.insert(0, prefill)
        for job in waiting:
            size = min(job.positions, self._chunk) if job.priority is Priority.PREFILL else job.positions
            if places and size <= room:
                room, places = room - size, places - 1
                batch.append((job, size))
        for job, _ in batch:
            self._waiting.remove(job)
        return batch

    def _note_load(self, seconds: float) -> None:
        gap = max(self.time.now - self._seen, 1e-9)
        past = math.exp(-gap / _SETTLE_S)
        self._load, self._seen = past * self._load + (1.0 - past) * min(1.0, seconds / gap), self.time.now
