"""The engine loop: shared passes, order, fairness, and failures that stay where they belong."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.fakes.engine import HashEngine
from updraft.engine.base import Output, Run
from updraft.engine.loop import EngineLoop, PassRecord, Priority, Share, Want, next_run
from updraft.errors import EngineFailure, LateReply, UpdraftError


class Feeder:
    """A task that feeds its tokens in runs of `size` and notes what happened to it."""

    def __init__(self, loop: EngineLoop, tokens: list[int], *, priority: Priority, size: int = 8) -> None:
        self._engine = loop.engine
        self.sequence = loop.engine.open()
        self.tokens = tokens
        self.priority = priority
        self.size = size
        self.rows: list[bytes] = []
        self.error: UpdraftError | None = None
        self.deadline = math.inf
        self.done = threading.Event()

    def plan(self) -> Want | None:
        start = self._engine.length(self.sequence)
        if start >= len(self.tokens):
            return None
        part = self.tokens[start : start + self.size]
        rows = 0 if self.priority is Priority.PREFILL else len(part)
        return Want(self.priority, Run(self.sequence, start, part, rows), deadline=self.deadline)

    def consume(self, run: Run, output: Output) -> None:
        self.rows.extend(row.tobytes() for row in output.logits)
        if run.position + len(run.tokens) == len(self.tokens):
            self.done.set()

    def fail(self, error: UpdraftError) -> None:
        self.error = error
        self.done.set()


@pytest.fixture
def engine() -> HashEngine:
    return HashEngine()


@pytest.fixture
def loop(engine: HashEngine) -> Iterator[EngineLoop]:
    loop = EngineLoop(engine, pass_tokens=63)
    loop.start()
    yield loop
    loop.stop()


def start(loop: EngineLoop, *tasks: Feeder) -> None:
    for task in tasks:
        loop.post(partial(loop.add, task))
    for task in tasks:
        assert task.done.wait(5)


def test_tasks_share_passes_and_get_what_they_would_get_alone(loop: EngineLoop, engine: HashEngine) -> None:
    prompts = [[1, 2, 3, 4] * 5, [4, 3, 2] * 7, [9] * 11]
    tasks = [Feeder(loop, prompt, priority=Priority.WRITE, size=3) for prompt in prompts]
    start(loop, *tasks)
    for task, prompt in zip(tasks, prompts, strict=True):
        alone = HashEngine()
        expected = [alone.forward([Run(alone.open(), 0, prompt, len(prompt))])[0].logits]
        assert task.rows == [row.tobytes() for row in expected[0]]
    assert loop.statistics.passes < loop.statistics.runs
    assert loop.statistics.positions == sum(len(prompt) for prompt in prompts)


def test_a_pass_holds_no_more_positions_than_allowed(loop: EngineLoop, engine: HashEngine) -> None:
    start(loop, *(Feeder(loop, [1] * 60, priority=Priority.PREFILL, size=20) for _ in range(6)))
    assert max(sum(len(run.tokens) for run in batch) for batch in engine.batches) <= 63


def test_verification_goes_first_and_prefill_is_never_starved(loop: EngineLoop, engine: HashEngine) -> None:
    urgent = [Feeder(loop, [1] * 200, priority=Priority.VERIFY, size=20) for _ in range(4)]
    patient = Feeder(loop, [2] * 60, priority=Priority.PREFILL, size=20)
    start(loop, *urgent, patient)
    first = engine.batches[0]
    assert first[0].sequence in {task.sequence for task in urgent}
    with_prefill = [any(run.sequence == patient.sequence for run in batch) for batch in engine.batches[:3]]
    assert all(with_prefill)


def test_equal_tasks_take_turns(loop: EngineLoop, engine: HashEngine) -> None:
    tasks = [Feeder(loop, [1] * 80, priority=Priority.WRITE, size=40) for _ in range(4)]
    start(loop, *tasks)
    assert sorted(batch[0].sequence for batch in engine.batches[:4]) == sorted(task.sequence for task in tasks)


def test_a_failing_pass_fails_its_tasks_and_the_loop_goes_on() -> None:
    engine = HashEngine(fail_after=1)
    loop = EngineLoop(engine)
    loop.start()
    broken = Feeder(loop, [1, 2], priority=Priority.WRITE)
    start(loop, broken)
    assert isinstance(broken.error, EngineFailure)
    engine.fail_after = None
    healthy = Feeder(loop, [1, 2], priority=Priority.WRITE)
    start(loop, healthy)
    assert healthy.error is None
    loop.stop()


def test_a_task_that_fails_on_its_result_takes_nobody_with_it(loop: EngineLoop) -> None:
    class Clumsy(Feeder):
        def consume(self, run: Run, output: Output) -> None:
            raise ValueError("clumsy")

    clumsy = Clumsy(loop, [1], priority=Priority.WRITE)
    careful = Feeder(loop, [1, 2, 3], priority=Priority.WRITE, size=1)
    start(loop, clumsy, careful)
    assert isinstance(clumsy.error, EngineFailure)
    assert careful.error is None
    assert len(careful.rows) == 3


def test_a_task_that_cannot_plan_takes_nobody_with_it(loop: EngineLoop) -> None:
    class Lost(Feeder):
        def plan(self) -> Want | None:
            raise ValueError("lost")

    lost, careful = Lost(loop, [1], priority=Priority.WRITE), Feeder(loop, [1, 2], priority=Priority.WRITE)
    start(loop, lost, careful)
    assert isinstance(lost.error, EngineFailure)
    assert careful.error is None


def test_nothing_is_computed_for_who_is_late(loop: EngineLoop, engine: HashEngine) -> None:
    late = Feeder(loop, [1, 2, 3], priority=Priority.VERIFY)
    late.deadline = time.monotonic() - 1
    start(loop, late)
    assert isinstance(late.error, LateReply)
    assert (engine.batches, late.rows) == ([], [])


def test_prompts_that_are_cut_to_the_room_there_is_end_like_others(engine: HashEngine) -> None:
    """Whole prompts in pieces of the scheduler's own choice: what follows has the bits that it would have alone."""
    loop = EngineLoop(engine, pass_tokens=63)
    prompts = [[number + 1] * 100 for number in range(3)]
    tasks = [Feeder(loop, prompt, priority=Priority.PREFILL, size=40) for prompt in prompts]
    writer = Feeder(loop, [7] * 30, priority=Priority.WRITE, size=2)
    for task in (*tasks, writer):
        loop.add(task)
    while loop.turn():
        pass
    pieces = {len(run.tokens) for batch in engine.batches for run in batch if run.sequence != writer.sequence}
    assert pieces - {40, 100 % 40}
    for task, prompt in zip(tasks, prompts, strict=True):
        alone = HashEngine(context=200)
        sequence = alone.open()
        alone.forward([Run(sequence, 0, prompt[:50])])
        alone.forward([Run(sequence, 50, prompt[50:])])
        (expected,) = alone.forward([Run(sequence, 100, [5], 1)])
        (got,) = engine.forward([Run(task.sequence, 100, [5], 1)])
        assert got.logits.tobytes() == expected.logits.tobytes()


def test_each_pass_is_recorded_with_what_it_was_made_of(engine: HashEngine) -> None:
    records = list[PassRecord]()
    loop = EngineLoop(engine, pass_tokens=63, observe=records.append)
    for priority, size in ((Priority.VERIFY, 5), (Priority.VERIFY, 40), (Priority.WRITE, 1), (Priority.SCORE, 20)):
        loop.add(Feeder(loop, [1] * size, priority=priority, size=size))
    loop.add(Feeder(loop, [2] * 50, priority=Priority.PREFILL, size=50))
    while loop.turn():
        pass
    first, second = records[:2]
    assert (first.verify, first.write, first.score) == (Share(2, 45), Share(1, 1), Share())
    assert (first.prefill, first.waiting) == (Share(1, 17), 1)
    assert (second.score, second.prefill, second.waiting) == (Share(1, 20), Share(1, 33), 0)
    assert min(min(one.seconds, one.consumed_s, one.overhead_s) for one in records) >= 0


def test_what_has_come_together_is_sent_after_admission_and_after_a_pass(engine: HashEngine) -> None:
    seen = list[tuple[int, int]]()
    loop = EngineLoop(engine, settle=lambda: seen.append((len(engine.batches), len(feeder.rows))))
    feeder = Feeder(loop, [1, 2], priority=Priority.WRITE, size=1)
    loop.start()
    start(loop, feeder)
    loop.stop()
    assert seen[0] == (0, 0)
    assert {(1, 1), (2, 2)} <= set(seen)


def test_a_hook_that_fails_does_not_end_the_loop(engine: HashEngine) -> None:
    def fail(*_: object) -> None:
        raise ValueError("broken hook")

    loop = EngineLoop(engine, settle=fail, observe=fail)
    loop.start()
    feeder = Feeder(loop, [1, 2], priority=Priority.WRITE, size=1)
    start(loop, feeder)
    assert (feeder.error, len(feeder.rows)) == (None, 2)
    loop.stop()


def test_stopping_tells_waiting_tasks_and_can_be_repeated(engine: HashEngine) -> None:
    loop = EngineLoop(engine)
    loop.start()
    idle = Feeder(loop, [], priority=Priority.WRITE)
    loop.call(lambda: loop.add(idle)).result(5)
    loop.stop()
    loop.stop()
    assert isinstance(idle.error, EngineFailure)
    assert engine.open_sequences == 0


def test_a_call_brings_results_and_errors_back(loop: EngineLoop) -> None:
    assert loop.call(lambda: threading.current_thread().name).result(5) == "updraft-engine"
    with pytest.raises(ZeroDivisionError):
        loop.call(lambda: 1 // 0).result(5)


@pytest.mark.parametrize(
    ("length", "rows", "chunk"), [(1, 1, 48), (63, 5, 48), (64, 63, 48), (200, 10, 48), (90, 63, 7)]
)
def test_runs_stay_short_and_end_with_the_rows_that_are_wanted(length: int, rows: int, chunk: int) -> None:
    engine = HashEngine(context=512)
    sequence = engine.open()
    tokens = list(range(1, 60)) * 4
    tokens = tokens[:length]
    while True:
        run = next_run(engine, sequence, tokens, rows, chunk)
        drafted = length // 3
        assert next_run(engine, sequence, tokens[: length - drafted], rows, chunk, tokens[length - drafted :]) == run
        assert 1 <= len(run.tokens) <= engine.max_run
        engine.forward([run])
        if run.rows:
            break
    assert run.rows == rows
    assert engine.length(sequence) == length
