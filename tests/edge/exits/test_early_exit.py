"""The early-exit drafter: leaves where an exit is confident, asks where none is, and misses no keys and values."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edge.exits.agents import Reference, Step, plan_of
from tests.fakes.staged_engine import FakeStagedEngine
from tests.fakes.tiers import until
from updraft.engine.base import FloatRows
from updraft.engine.loop import EngineLoop
from updraft.exits.criteria import ExitCriterion, ExitVerdict, NeverConfident, make_criterion
from updraft.exits.scores import Trace
from updraft.sampling import Sampler, SamplingParams
from updraft_edge.exits.drafter import EarlyExitDrafter
from updraft_edge.stopping.costs import Costs

PROMPT = [5, 6, 7]
PARAMS = SamplingParams(temperature=0.8, seed=2, presence_penalty=0.4)
ENGINE: dict[str, Any] = {"exit_noise": 1.0, "sequences": 2}


class Uploads:
    """What has gone to the cloud: a row for each position."""

    def __init__(self) -> None:
        self.rows: list[FloatRows] = []
        self.sizes: list[int] = []

    def __call__(self, position: int, states: FloatRows) -> None:
        assert 0 <= position <= len(self.rows) and len(states)
        self.rows[position:] = list(states)
        self.sizes.append(len(states))


class HandsOverOdd:
    """Hands over where the last token is odd, leaves where it is divisible by four."""

    def judge(self, trace: Trace) -> ExitVerdict:
        token = trace[-1].token
        return ExitVerdict.HAND_OVER if token % 2 else ExitVerdict.STAY if token % 4 else ExitVerdict.EXIT


CRITERIA: dict[str, ExitCriterion] = {
    "probability": make_criterion("probability", threshold=0.6),
    "entropy": make_criterion("entropy", threshold=0.4),
    "patience": make_criterion("patience", threshold=0.5, patience=1),
    "never": NeverConfident(),
    "hands over": HandsOverOdd(),
}


@pytest.fixture
async def loop() -> AsyncIterator[EngineLoop]:
    loop = EngineLoop(FakeStagedEngine(**ENGINE))
    loop.start()
    yield loop
    await asyncio.to_thread(loop.stop)


def make(
    loop: EngineLoop, criterion: ExitCriterion, uploads: Uploads | None = None, *, asks: bool = True, **options: Any
) -> EarlyExitDrafter:
    return EarlyExitDrafter(
        loop,
        options.pop("prompt", PROMPT),
        Sampler(PARAMS, PROMPT),
        plan=plan_of(criterion, split=None if uploads is None else options.pop("split", 0)),
        asks=asks,
        on_boundary=uploads,
        **{"ends": frozenset(), "ahead": 8, "most": 400, "costs": Costs(), **options},
    )


async def propose(drafter: EarlyExitDrafter) -> Step:
    sampled = await drafter.propose()
    return Step(None, None) if sampled is None else Step(sampled.token, sampled.layer)


def expected_states(log: list[int], split: int = 0) -> list[FloatRows]:
    engine = FakeStagedEngine(**ENGINE)
    return [engine._state(split, tuple(log[: position + 1])) for position in range(len(log))]


@pytest.mark.parametrize("name", CRITERIA)
async def test_alone_it_writes_the_first_confident_exits_token_or_the_deepest_exits(
    loop: EngineLoop, name: str
) -> None:
    drafter = make(loop, CRITERIA[name], asks=False)
    written = []
    for _ in range(40):
        step = await propose(drafter)
        assert step.token is not None
        drafter.settle([step.token])
        written.append(step)
    assert written == Reference(plan_of(CRITERIA[name]), PARAMS, PROMPT, **ENGINE).write(40, asks=False)
    drafter.close()


@given(
    st.data(), st.sampled_from(sorted(CRITERIA)), st.integers(1, 8), st.integers(0, 1), st.sampled_from([0.0, 0.004])
)
@settings(max_examples=40, deadline=None)
def test_any_settling_is_followed_by_what_plain_computation_gives_after_it(
    data: st.DataObject, name: str, ahead: int, split: int, linger_s: float
) -> None:
    async def check() -> None:
        loop = EngineLoop(FakeStagedEngine(**ENGINE))
        loop.start()
        uploads = Uploads()
        drafter = make(loop, CRITERIA[name], uploads, ahead=ahead, split=split, linger_s=linger_s)
        plan = plan_of(CRITERIA[name], split=split)
        reference = Reference(plan, PARAMS, PROMPT, **ENGINE)
        log = list(PROMPT)
        for _ in range(8):
            run: list[int] = []
            asked = False
            guess = Reference(plan, PARAMS, PROMPT, **ENGINE)
            guess.commit(log[len(PROMPT) :])
            for _ in range(data.draw(st.integers(0, ahead))):
                step = await propose(drafter)
                assert step == guess.next(asks=True)
                asked = step.token is None
                if step.token is None:
                    assert await propose(drafter) == step  # it stays so until it is settled
                    np.testing.assert_array_equal(uploads.rows, expected_states(log + run, split))
                    break
                run.append(step.token)
                guess.commit([step.token])
            if data.draw(st.booleans()):
                await asyncio.sleep(0.002)  # let it run ahead
            other = data.draw(st.lists(st.integers(0, 62), max_size=3))
            tokens = run + other if asked else run[: data.draw(st.integers(0, len(run)))] + other if other else run
            drafter.settle(tokens)
            reference.commit(tokens)
            log += tokens
        assert await propose(drafter) == reference.next(asks=True)
        drafter.close()
        await asyncio.to_thread(loop.stop)

    asyncio.run(check())


async def test_a_confident_token_costs_one_shallow_pass_and_deeper_stages_catch_up_at_once(loop: EngineLoop) -> None:
    engine = loop.engine
    assert isinstance(engine, FakeStagedEngine)
    batches = engine.batches

    class LeavesTwice:
        def judge(self, trace: Trace) -> ExitVerdict:
            shallow = len(trace) == 1 and len(batches) <= 2
            return ExitVerdict.EXIT if shallow else ExitVerdict.STAY

    drafter = make(loop, LeavesTwice())
    assert [(await propose(drafter)).layer for _ in range(2)] == [2, 2]
    assert await propose(drafter) == Step(None, None)
    runs = [run for batch in batches for run in batch]
    assert [(len(run.tokens), run.depth) for run in runs] == [(3, 0), (1, 0), (1, 0), (0, 1)]
    assert engine.computed(0, 1) == engine.computed(0, 0) == 5
    drafter.close()


async def test_what_is_left_to_the_cloud_is_said_again_after_tokens_that_were_still_on_their_way(
    loop: EngineLoop,
) -> None:
    class LeavesAtFour:
        """As long as the log is short."""

        def judge(self, trace: Trace) -> ExitVerdict:
            return ExitVerdict.EXIT if engine.length(0) < len(PROMPT) + 4 else ExitVerdict.STAY

    engine = loop.engine
    drafter = make(loop, LeavesAtFour())
    reference = Reference(plan_of(make_criterion("probability", threshold=0.0)), PARAMS, PROMPT, **ENGINE)
    run = [step.token or 0 for step in reference.write(4, asks=False)]
    while not drafter._exit_task._left:
        time.sleep(0.001)  # noqa: ASYNC251  # the event loop must not see what the engine's thread sends
    drafter.settle(run)
    async with asyncio.timeout(5):
        assert await propose(drafter) == Step(None, None)
    drafter.close()


async def test_a_hand_over_skips_the_deeper_stages_but_not_those_whose_states_go_up(loop: EngineLoop) -> None:
    class Hopeless:
        def judge(self, trace: Trace) -> ExitVerdict:
            return ExitVerdict.HAND_OVER

    engine = loop.engine
    assert isinstance(engine, FakeStagedEngine)
    for split, computed in ((0, 0), (1, 3)):
        uploads = Uploads()
        drafter = make(loop, Hopeless(), uploads, split=split)
        assert await propose(drafter) == Step(None, None)
        assert [engine.computed(0, stage) for stage in (0, 1)] == [3, computed]
        np.testing.assert_array_equal(uploads.rows, expected_states(PROMPT, split))
        drafter.close()
        await until(lambda: engine.open_sequences == 0)


async def test_a_long_prompt_goes_up_as_it_is_computed(loop: EngineLoop) -> None:
    prompt = [n % 60 for n in range(150)]
    uploads = Uploads()
    drafter = make(loop, NeverConfident(), uploads, prompt=prompt)
    assert await propose(drafter) == Step(None, None)
    assert uploads.sizes == [48, 48, 54]
    assert isinstance(loop.engine, FakeStagedEngine)
    runs = [(len(run.tokens), run.depth) for batch in loop.engine.batches for run in batch]
    assert runs == [(48, 1), (48, 1), (54, 0), (0, 1)]
    np.testing.assert_array_equal(uploads.rows, expected_states(prompt))
    drafter.close()


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("commits", [0, 4, 9])
async def test_left_alone_it_takes_up_what_it_had_left_to_the_cloud(loop: EngineLoop, name: str, commits: int) -> None:
    uploads = Uploads()
    drafter = make(loop, CRITERIA[name], uploads)
    plan = plan_of(CRITERIA[name])
    reference = Reference(plan, PARAMS, PROMPT, **ENGINE)
    for _ in range(commits):
        step = await propose(drafter)
        token = reference.cloud_token() if step.token is None else step.token
        drafter.settle([token])
        reference.commit([token])
    step = await propose(drafter)
    run = [] if step.token is None else [step.token]
    sent = len(uploads.rows)
    drafter.alone()
    drafter.settle(run)
    reference.commit(run)
    for expected in reference.write(20, asks=False):
        assert await propose(drafter) == expected
        drafter.settle([expected.token or 0])
    assert len(uploads.rows) == sent
    drafter.close()


async def test_a_token_that_is_being_left_to_the_cloud_when_it_is_lost_is_written(loop: EngineLoop) -> None:
    drafter = make(loop, NeverConfident())
    while not drafter._exit_task._left:
        time.sleep(0.001)  # noqa: ASYNC251  # the event loop must not see what the engine's thread sends
    drafter.alone()
    drafter.settle([])
    async with asyncio.timeout(5):
        (expected,) = Reference(plan_of(NeverConfident()), PARAMS, PROMPT, **ENGINE).write(1, asks=False)
        assert await propose(drafter) == expected
    drafter.close()


async def test_what_was_drafted_ahead_is_taken_back_from_the_uploads(loop: EngineLoop) -> None:
    uploads = Uploads()
    drafter = make(loop, make_criterion("probability", threshold=0.0), uploads)
    await until(lambda: len(uploads.rows) >= len(PROMPT) + 4)
    first = await propose(drafter)
    assert first.token is not None
    drafter.settle([first.token, 60, 61])  # not what it had drafted
    drafter.settle([])
    await until(lambda: len(uploads.rows) >= len(PROMPT) + 5)
    log = [*PROMPT, first.token, 60, 61]
    assert await propose(drafter)
    np.testing.assert_array_equal(uploads.rows[: len(log)], expected_states(log))
    drafter.close()
