"""A verifier that goes wrong takes no request with it: answers are unverified, and it is complained of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.fakes.engine import HashEngine
from tests.fakes.judges import FaultyJudge, ScriptedJudge
from updraft.engine.loop import EngineLoop
from updraft.errors import ConfigError
from updraft.sampling import SamplingParams
from updraft.strategies import Budget, EnginePlaces, Forks, Problem, Sample, Workspace
from updraft.verifiers import Judgement, Verifier

SAMPLES = [Sample("1", (17,), -0.1, "1"), Sample("2", (18,), -0.1, "2")]


@pytest.fixture
def loop() -> Iterator[EngineLoop]:
    loop = EngineLoop(HashEngine())
    loop.start()
    yield loop
    loop.stop()


def work(loop: EngineLoop, verifier: Verifier, **changes: Any) -> Workspace:
    forks = Forks(loop, EnginePlaces(loop.engine), SamplingParams(seed=1))
    return Workspace(Problem([1, 2], "q"), Budget(), forks, verifier, **changes)


@pytest.mark.parametrize(
    ("judge", "complaint"),
    [
        (FaultyJudge(error=ZeroDivisionError("secret")), "faulty failed: ZeroDivisionError"),
        (FaultyJudge(error=ConfigError("No model.")), "faulty: No model."),
        (FaultyJudge(error=asyncio.CancelledError()), "faulty failed: CancelledError"),
        (FaultyJudge(error=MemoryError()), "faulty failed: MemoryError"),
        (FaultyJudge(gives=None), "faulty failed: TypeError"),
        (FaultyJudge(gives=[]), "faulty gave 0 judgements for 2"),
        (FaultyJudge(gives=[Judgement(0.5)] * 3), "faulty gave 3 judgements for 2"),
        (FaultyJudge(gives=[Judgement(float("nan"))] * 2), "faulty gave a score of nan"),
        (FaultyJudge(gives=[Judgement(1.5)] * 2), "faulty gave a score of 1.5"),
        (FaultyJudge(gives=[Judgement(-1e-3)] * 2), "faulty gave a score of -0.001"),
        (FaultyJudge(gives=[Judgement("1")] * 2), "faulty gave a str in place of a score"),  # type: ignore[arg-type]
        (
            FaultyJudge(gives=[Judgement(np.array([0.1, 0.2]))] * 2),  # type: ignore[arg-type]
            "faulty gave a ndarray in place of a score",
        ),
        (
            FaultyJudge(gives=[Judgement(0.5, positions=None)] * 2),  # type: ignore[arg-type]
            "faulty gave a number of positions that is none",
        ),
        (FaultyJudge(gives=[0.5, 0.5]), "faulty gave a float in place of a judgement"),
        (FaultyJudge(gives=[Judgement(None, passed=True)] * 2), "faulty gave a pass without a score"),
        (FaultyJudge(gives=[Judgement(None, reason="it crashed", failed=True)] * 2), "faulty: it crashed"),
    ],
)
async def test_what_it_does_wrong_is_told_once(loop: EngineLoop, judge: FaultyJudge, complaint: str) -> None:
    space = work(loop, judge)
    judgements = await space.judge(SAMPLES)
    assert [(each.score, each.passed, each.failed) for each in judgements] == [(None, False, True)] * 2
    assert space.complaints == [complaint]
    assert "secret" not in str(space.complaints)


async def test_one_bad_judgement_spoils_no_other(loop: EngineLoop) -> None:
    space = work(loop, FaultyJudge(gives=[Judgement(np.float32(0.75), True), Judgement(float("inf"), True)]))  # type: ignore[arg-type]
    first, second = await space.judge(SAMPLES)
    assert (first.score, first.passed) == (0.75, True) and type(first.score) is float
    assert (second.score, second.failed) == (None, True)


async def test_one_that_hangs_is_given_up_and_cancelled(loop: EngineLoop) -> None:
    judge = FaultyJudge(hangs=True)
    space = work(loop, judge, verifier_timeout_s=0.01)
    judgements = await space.judge(SAMPLES)
    assert [each.score for each in judgements] == [None, None]
    assert space.complaints == ["faulty took more than 0.01 s"]
    await asyncio.sleep(0)
    assert judge.cancelled


async def test_one_that_does_not_listen_is_not_waited_for(loop: EngineLoop) -> None:
    judge = FaultyJudge(deaf=True)
    space = work(loop, judge, verifier_timeout_s=0.01)
    assert (await space.judge(SAMPLES))[0].failed
    judge.release.set()


async def test_a_request_that_is_cancelled_cancels_its_verifier(loop: EngineLoop) -> None:
    judge = FaultyJudge(hangs=True)
    task = asyncio.create_task(work(loop, judge).judge(SAMPLES))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert judge.cancelled


async def test_a_cancellation_is_not_taken_for_a_fault_where_the_verifier_has_just_ended(loop: EngineLoop) -> None:
    judge = FaultyJudge(hangs=True, gives=[Judgement(0.5)] * 2)
    task = asyncio.create_task(work(loop, judge).judge(SAMPLES))
    await asyncio.sleep(0.01)
    judge.release.set()
    await asyncio.sleep(0)  # the verifier has ended, and who waits for it does not know yet
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_log_holds_nothing_of_an_answer(loop: EngineLoop, caplog: pytest.LogCaptureFixture) -> None:
    await work(loop, FaultyJudge(error=ValueError("secret"))).judge(SAMPLES)
    assert "ValueError" in caplog.text and "secret" not in caplog.text


async def test_an_answer_that_was_scored_is_not_shown_again(loop: EngineLoop) -> None:
    judge = ScriptedJudge(lambda claim: None if claim.text == "1" else 0.9)
    space = work(loop, judge)
    first = await space.judge(SAMPLES)
    other = Sample("3", (19,), -0.1, "3")
    again = await space.judge([SAMPLES[1], other, SAMPLES[0]])
    assert [claim.text for claim in judge.seen] == ["1", "2", "3", "1"]  # of the first it could not tell
    assert again == [first[1], Judgement(0.9, True), first[0]] and space.spent.verifier_calls == 4


async def test_not_being_able_to_tell_is_no_fault(loop: EngineLoop) -> None:
    space = work(loop, ScriptedJudge(lambda claim: None if claim.text == "1" else 0.9))
    first, second = await space.judge(SAMPLES)
    assert (first.score, first.failed, second.passed) == (None, False, True)
    assert space.complaints == []
