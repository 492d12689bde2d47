"""The engine's loop: admit → schedule → run → post-process, in one thread that owns the engine.

Both tiers run it. The cloud gives it sessions (verifications, spans, prefills), the edge gives it drafters; the loop
puts what all of them want next into shared forward passes. Nothing in it waits for a network.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from time import monotonic, perf_counter
from typing import NamedTuple, Protocol, TypeVar

from updraft.engine.base import Engine, Output, Run
from updraft.engine.scheduler import Grouping, Pass, Priority, Scheduler, Want
from updraft.errors import EngineFailure, LateReply, UpdraftError

__all__ = ["EngineLoop", "LoopStatistics", "PassRecord", "Priority", "Share", "Task", "Want", "next_run"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class Task(Protocol):
    """Something that owns one sequence and wants tokens of it computed. All methods run in the loop's thread."""

    def plan(self) -> Want | None:
        """What it wants computed next, or None while it has to wait for somebody."""
        ...

    def consume(self, run: Run, output: Output) -> None:
        """Take what a pass computed; the output's arrays are valid only during this call."""
        ...

    def fail(self, error: UpdraftError) -> None:
        """Its run could not be computed; the loop has already removed the task."""
        ...


@dataclass(slots=True)
class LoopStatistics:
    """Counts since the loop started."""

    passes: int = 0
    positions: int = 0
    runs: int = 0


class Share(NamedTuple):
    """What one priority had of a pass."""

    runs: int = 0
    positions: int = 0


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What one pass was made of.

    Attributes:
        seconds: the forward pass.
        waiting: tasks that wanted a place and got none.
        consumed_s: seconds in the tasks' own `consume`: sampling and answers.
        overhead_s: seconds of the loop's turn that were neither; waiting for something to do does not count.
    """

    seconds: float
    verify: Share
    write: Share
    score: Share
    prefill: Share
    waiting: int
    consumed_s: float
    overhead_s: float


def next_run(
    engine: Engine, sequence: int, tokens: Sequence[int], rows: int, chunk: int, drafted: Sequence[int] = ()
) -> Run:
    """The next run that brings a sequence's cache up to `tokens` and then `drafted`, with logits for the last `rows`.

    Long stretches are cut into chunks without logits; the last run holds at most `engine.max_run` tokens.
    """
    start = engine.length(sequence)
    left = len(tokens) + len(drafted) - start
    size = left if left <= engine.max_run else min(chunk, engine.max_run, left - rows)
    part = tokens[start : start + size]
    if len(part) < size:
        after = max(0, start - len(tokens))
        part = [*part, *drafted[after : after + size - len(part)]]
    return Run(sequence, start, part, rows if size == left else 0)


class EngineLoop:
    """Owns an engine from one thread.

    Args:
        engine: the engine; only this loop may touch it while it runs.
        pass_tokens: positions in one forward pass, at most.
        settle: called in the loop's thread once a turn after admission and once after a pass was handed out: the
            time to send what has come together.
        observe: called in the loop's thread with a record of each pass.
        grouping: which runs had better share a pass, where not all fit into one; asked in the loop's thread.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        pass_tokens: int = 256,
        settle: Callable[[], None] | None = None,
        observe: Callable[[PassRecord], None] | None = None,
        grouping: Grouping | None = None,
    ) -> None:
        self.engine = engine
        self.statistics = LoopStatistics()
        self._settle = settle
        self._observe = observe
        self._began = 0.0  # of this turn, perf_counter
        self._scheduler: Scheduler[Task] = Scheduler(max(pass_tokens, engine.max_run), grouping)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._tasks: dict[Task, None] = {}  # in the order of their coming
        self._stopping = False
        self._thread = threading.Thread(target=self._run_loop, name="updraft-engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the loop after the pass under way and free the engine. Safe to call twice."""
        if self._thread.is_alive():
            self.post(self._stop_now)
            self._thread.join()

    def post(self, command: Callable[[], None]) -> None:
        """Run `command` in the loop's thread before the next pass. Thread-safe."""
        self._inbox.put(command)

    def call(self, function: Callable[[], T]) -> Future[T]:
        """As `post`, with a future for the result. Thread-safe."""
        future: Future[T] = Future()

        def command() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

        self.post(command)
        return future

    def add(self, task: Task) -> None:
        """Serve a task from now on. Loop thread only."""
        self._tasks[task] = None

    def remove(self, task: Task) -> None:
        """Serve it no more; unknown tasks are ignored. Loop thread only."""
        self._tasks.pop(task, None)

    def fail(self, task: Task, error: Exception) -> None:
        """End a task with what went wrong for it outside of its own `plan` and `consume`. Loop thread only."""
        log.error("a task failed", exc_info=error)
        self._fail([task], _as_failure(error))

    def turn(self) -> bool:
        """Schedule, run and hand out one pass; False if nobody wants anything. Loop thread only."""
        chosen = self._schedule()
        batch = chosen.places
        if not batch:
            self._settle_all()
            return bool(chosen.late)
        started = perf_counter()
        outputs = self._run(batch)
        passed = perf_counter() - started
        consumed = 0.0 if outputs is None else self._postprocess(batch, outputs)
        self._settle_all()
        now = perf_counter()
        if self._observe is not None and outputs is not None:
            overhead = now - self._began - passed - consumed
            self._carry_out(partial(self._observe, _record(chosen, passed, consumed, overhead)))
        self._began = now
        return True

    def _run_loop(self) -> None:
        busy = False
        while self._admit(wait=not busy):
            self._settle_all()
            busy = self.turn()
        self._settle_all()
        self.engine.shutdown()

    def _settle_all(self) -> None:
        if self._settle is not None:
            self._carry_out(self._settle)

    def _admit(self, *, wait: bool) -> bool:
        """Carry out the commands that have arrived; block for one if there was nothing to compute."""
        if wait:
            command = self._inbox.get()
            self._began = perf_counter()
            self._carry_out(command)
        while not self._stopping:
            try:
                command = self._inbox.get_nowait()
            except queue.Empty:
                return True
            self._carry_out(command)
        return False

    def _schedule(self) -> Pass[Task]:
        """The next pass; who is late is told so, and nothing computed for it."""
        chosen = self._scheduler.choose(self._wants(), monotonic())
        if chosen.late:
            self._fail(chosen.late, LateReply("The deadline passed before the work was begun."))
        return chosen

    def _wants(self) -> list[tuple[Task, Want]]:
        wants: list[tuple[Task, Want]] = []
        for task in list(self._tasks):
            try:
                want = task.plan()
            except Exception as error:
                log.exception("a task failed to plan")
                self._fail([task], _as_failure(error))
                continue
            if want is not None:
                wants.append((task, want))
        return wants

    def _run(self, batch: list[tuple[Task, Want]]) -> list[Output] | None:
        """One forward pass; None if it failed, after the tasks in it were told."""
        statistics = self.statistics
        try:
            outputs = self.engine.forward([want.run for _, want in batch])
        except Exception as error:
            log.exception("a forward pass of %d runs failed", len(batch))
            self._fail([task for task, _ in batch], _as_failure(error))
            return None
        statistics.passes += 1
        statistics.runs += len(batch)
        statistics.positions += sum(len(want.run.tokens) for _, want in batch)
        return outputs

    def _postprocess(self, batch: list[tuple[Task, Want]], outputs: list[Output]) -> float:
        """Hand the results out; a task that fails on its own result takes nobody else with it.

        Returns the seconds that the tasks took.
        """
        seconds = 0.0
        for (task, want), output in zip(batch, outputs, strict=True):
            if task not in self._tasks:
                continue
            started = perf_counter()
            try:
                task.consume(want.run, output)
            except Exception as error:
                log.exception("a task failed on its result")
                self._fail([task], _as_failure(error))
            seconds += perf_counter() - started
        return seconds

    def _fail(self, tasks: list[Task], failure: UpdraftError) -> None:
        for task in tasks:
            self.remove(task)
            self._carry_out(partial(task.fail, failure))

    def _carry_out(self, command: Callable[[], None]) -> None:
        """A command that fails (its event loop may be gone) must not end the loop for everybody."""
        try:
            command()
        except Exception:
            log.exception("a command to the engine loop failed")

    def _stop_now(self) -> None:
        self._stopping = True
        self._fail(list(self._tasks), EngineFailure("The engine is shutting down."))


def _as_failure(error: Exception) -> UpdraftError:
    return error if isinstance(error, UpdraftError) else EngineFailure(f"The engine failed: {error}")


def _record(chosen: Pass[Task], seconds: float, consumed_s: float, overhead_s: float) -> PassRecord:
    runs, positions = [0] * len(Priority), [0] * len(Priority)
    for _, want in chosen.places:
        runs[want.priority] += 1
        positions[want.priority] += len(want.run.tokens)
    verify, write, score, prefill = (Share(*share) for share in zip(runs, positions, strict=True))
    return PassRecord(seconds, verify, write, score, prefill, chosen.waiting, consumed_s, overhead_s)
