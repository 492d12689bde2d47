"""A branch in the engine loop's thread: its log, and the job that it has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np

from updraft.engine.base import Engine, FloatRows, Output, Run
from updraft.engine.loop import EngineLoop, Priority, Want, next_run
from updraft.errors import UpdraftError
from updraft.sampling import Sampled, Sampler, measure
from updraft.strategies.places import NONE, Places

__all__ = ["BranchTask", "Job", "Reading", "Shop", "Work", "Writing"]

_CHUNK: Final = 48  # positions of a prompt in one run


@dataclass(slots=True)
class Work:
    """What was computed for branches.

    Attributes:
        tokens: that were drawn.
        positions: that passes computed, those of prompts and of rebuilt caches included.
    """

    tokens: int = 0
    positions: int = 0


@dataclass(frozen=True, slots=True)
class Shop:
    """What the tasks of one request share."""

    loop: EngineLoop
    places: Places
    tenant: str
    work: Work = field(default_factory=Work)

    @property
    def engine(self) -> Engine:
        return self.loop.engine


class Job(Protocol):
    """What a branch is to do. `result` is resolved in the event loop, with `outcome`.

    Attributes:
        partial: what there is of it counts where it is stopped early.
    """

    priority: Priority
    result: asyncio.Future[Any]
    partial: bool

    @property
    def outcome(self) -> object: ...

    def feed(self, task: BranchTask, row: FloatRows) -> bool:
        """Take the row after the log, shape (vocabulary,); whether the job is done."""
        ...


class Writing:
    """Tokens are drawn until an end token, the token that completes `step`, or `most` of them."""

    priority = Priority.WRITE
    partial = True

    def __init__(self, most: int, step: bytes, ends: frozenset[int]) -> None:
        self.result: asyncio.Future[list[Sampled]] = asyncio.get_running_loop().create_future()
        self.outcome: list[Sampled] = []
        self._most = most
        self._step = step
        self._ends = ends
        self._text = b""

    def feed(self, task: BranchTask, row: FloatRows) -> bool:
        sampled = task.draw(row)
        self.outcome.append(sampled)
        if self._step:
            self._text += task.engine.tokenizer.piece(sampled.token)
        stepped = bool(self._step) and self._step in self._text
        return stepped or sampled.token in self._ends or len(self.outcome) >= self._most


class Reading:
    """The row after the log is read for the log-probabilities of some tokens, nats."""

    priority = Priority.SCORE
    partial = False

    def __init__(self, choices: Sequence[int]) -> None:
        self.result: asyncio.Future[FloatRows] = asyncio.get_running_loop().create_future()
        self.outcome: FloatRows = np.empty(0, np.float32)
        self._choices = list(choices)

    def feed(self, task: BranchTask, row: FloatRows) -> bool:
        self.outcome = row[self._choices] - np.float32(measure(row).energy)
        return True


class BranchTask:
    """Task of the engine loop and holder of `Places`. Its methods run in the loop's thread."""

    def __init__(self, shop: Shop, log: list[int], sampler: Sampler) -> None:
        self.sequence = NONE
        self.sampler = sampler
        self._shop = shop
        self._log = log
        self._job: Job | None = None
        self._failure: UpdraftError | None = None

    @property
    def engine(self) -> Engine:
        return self._shop.engine

    @property
    def tokens(self) -> list[int]:
        return self._log

    @property
    def idle(self) -> bool:
        return self._job is None

    def join(self) -> None:
        self._shop.places.join(self, self._shop.tenant)
        self._shop.loop.add(self)

    def leave(self) -> None:
        self._shop.loop.remove(self)
        self._shop.places.leave(self)

    def take(self, job: Job) -> None:
        self._job = job
        if self._failure is not None:
            self._settle(self._failure)

    def stop(self, error: UpdraftError) -> None:
        """End the job early: with what there is of it, or with the error."""
        if self._job is not None:
            self._settle(None if self._job.partial else error)

    def draw(self, row: FloatRows) -> Sampled:
        """Draw the next token and write it down."""
        sampled = self.sampler.draw(row, len(self._log))
        self.sampler.commit([sampled.token])
        self._log.append(sampled.token)
        return sampled

    def plan(self) -> Want | None:
        if self._job is None or not self._shop.places.enter(self):
            return None
        run = next_run(self.engine, self.sequence, self._log, 1, _CHUNK)
        return Want(self._job.priority if run.rows else Priority.PREFILL, run, self._shop.tenant)

    def consume(self, run: Run, output: Output) -> None:
        self._shop.work.positions += len(run.tokens)
        if self._job is not None and run.rows and self._job.feed(self, output.logits[0]):
            self._settle(None)

    def fail(self, error: UpdraftError) -> None:
        self._failure = error
        self._shop.places.leave(self, keep=False)
        self._settle(error)

    def _settle(self, error: UpdraftError | None) -> None:
        """The job is over: tell the event loop, if there still is one."""
        job, self._job = self._job, None
        if job is not None and not (waiting := job.result.get_loop()).is_closed():
            waiting.call_soon_threadsafe(_resolve, job, error)


def _resolve(job: Job, error: UpdraftError | None) -> None:
    if job.result.done():
        return
    if error is None:
        job.result.set_result(job.outcome)
    else:
        job.result.set_exception(error)
