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
from enum import IntEnum
from functools import partial
from typing import Protocol, TypeVar

from updraft.engine.base import Engine, Output, Run
from updraft.errors import EngineFailure, UpdraftError

__all__ = ["EngineLoop", "LoopStatistics", "Priority", "Task", "next_run"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class Priority(IntEnum):
    """Order in which runs get a place in a pass."""

    VERIFY = 0  # somebody waits for it across a network
    WRITE = 1
    PREFILL = 2


class Task(Protocol):
    """Something that owns one sequence and wants tokens of it computed. All methods run in the loop's thread."""

    def plan(self) -> tuple[Priority, Run] | None:
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


def next_run(engine: Engine, sequence: int, tokens: Sequence[int], rows: int, chunk: int) -> Run:
    """The next run that brings a sequence's cache up to `tokens`, with logits for the last `rows` of them.

    Long stretches are cut into chunks without logits; the last run holds at most `engine.max_run` tokens.
    """
    start = engine.length(sequence)
    if len(tokens) - start > engine.max_run:
        size = min(chunk, engine.max_run, len(tokens) - start - rows)
        return Run(sequence, start, tokens[start : start + size])
    return Run(sequence, start, tokens[start:], rows)


class EngineLoop:
    """Owns an engine from one thread.

    Args:
        engine: the engine; only this loop may touch it while it runs.
        pass_tokens: positions in one forward pass, at most.
    """

    def __init__(self, engine: Engine, *, pass_tokens: int = 256) -> None:
        self.engine = engine
        self.statistics = LoopStatistics()
        self._pass_tokens = max(pass_tokens, engine.max_run)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._tasks: dict[Task, int] = {}  # task -> pass in which it was served last
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
        self._tasks[task] = -1

    def remove(self, task: Task) -> None:
        """Serve it no more; unknown tasks are ignored. Loop thread only."""
        self._tasks.pop(task, None)

    def _run_loop(self) -> None:
        batch: list[tuple[Task, Run]] = []
        while self._admit(wait=not batch):
            batch = self._schedule()
            if batch:
                self._postprocess(batch, self._run(batch))
        self.engine.shutdown()

    def _admit(self, *, wait: bool) -> bool:
        """Carry out the commands that have arrived; block for one if there was nothing to compute."""
        if wait:
            self._carry_out(self._inbox.get())
        while not self._stopping:
            try:
                command = self._inbox.get_nowait()
            except queue.Empty:
                return True
            self._carry_out(command)
        return False

    def _schedule(self) -> list[tuple[Task, Run]]:
        """Runs for the next pass: by priority, then whoever waited longest; one prefill always gets a place."""
        planned = [(plan[0], served, task, plan[1]) for task, served in self._tasks.items() if (plan := task.plan())]
        if len(planned) == 1:
            return [planned[0][2:]]
        planned.sort(key=lambda entry: entry[:2])
        room = self._pass_tokens
        prefills = [entry for entry in planned if entry[0] is Priority.PREFILL]
        if prefills:
            room -= len(prefills[0][3].tokens)
        batch: list[tuple[Task, Run]] = []
        for entry in planned:
            reserved = bool(prefills) and entry is prefills[0]
            size = 0 if reserved else len(entry[3].tokens)
            if size <= room:
                room -= size
                batch.append((entry[2], entry[3]))
        return batch

    def _run(self, batch: list[tuple[Task, Run]]) -> list[Output] | None:
        """One forward pass; None if it failed, after the tasks in it were told."""
        statistics = self.statistics
        try:
            outputs = self.engine.forward([run for _, run in batch])
        except Exception as error:
            log.exception("a forward pass of %d runs failed", len(batch))
            self._fail([task for task, _ in batch], _as_failure(error))
            return None
        statistics.passes += 1
        statistics.runs += len(batch)
        statistics.positions += sum(len(run.tokens) for _, run in batch)
        return outputs

    def _postprocess(self, batch: list[tuple[Task, Run]], outputs: list[Output] | None) -> None:
        """Hand the results out; a task that fails on its own result takes nobody else with it."""
        for (task, run), output in zip(batch, outputs or (), strict=False):
            if task not in self._tasks:
                continue
            self._tasks[task] = self.statistics.passes
            try:
                task.consume(run, output)
            except Exception as error:
                log.exception("a task failed on its result")
                self._fail([task], _as_failure(error))

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
