"""`Solve` over real gRPC: what comes out follows from the request, and whatever happens nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpc import aio

from tests.fakes.engine import HashEngine
from tests.fakes.solving import JudgedSamples, LetterVerifier, solve_request
from tests.fakes.tiers import idle, running_cloud, until
from updraft.config import AdmissionSettings, StrategySettings
from updraft.errors import LateReply
from updraft.modes import MAX_SPEC_BYTES
from updraft.strategies import STRATEGIES
from updraft.v1 import collaboration_pb2 as pb
from updraft.v1.collaboration_pb2_grpc import CollaborationStub
from updraft.verifiers import VERIFIERS
from updraft_cloud import solve_stream
from updraft_cloud.frames import Limits
from updraft_cloud.operations.metrics import CloudMetrics
from updraft_cloud.server import CloudServer
from updraft_cloud.solve_frames import Noted
from updraft_cloud.solve_stream import SolveStream
from updraft_cloud.solving import solver
from updraft_cloud.wire import MAX_GIVEN, read_solve

LONG = {"max_tokens": 400, "samples": 16}


@asynccontextmanager
async def calling(cloud: CloudServer) -> AsyncIterator[CollaborationStub]:
    async with aio.insecure_channel(cloud.address) as channel:
        yield CollaborationStub(channel)


async def solved(stub: Any, request: pb.SolveRequest) -> list[pb.SolveEvent]:
    return [event async for event in stub.Solve(request, timeout=30.0)]


async def error_of(stub: Any, request: pb.SolveRequest) -> pb.Error:
    last = (await solved(stub, request))[-1]
    assert last.WhichOneof("body") == "error", last
    error: pb.Error = last.error
    return error


def untimed(events: list[pb.SolveEvent]) -> list[bytes]:
    """The events without what no two calls have in common."""
    for event in events:
        if event.HasField("answer"):
            event.answer.spent.milliseconds = 0
            event.answer.spent.prefilled = 0  # a prompt that is known is not computed again
            event.answer.ClearField("cost")
    return [event.SerializeToString() for event in events]


async def test_an_answer_comes_with_its_reports_its_cost_and_the_alternatives() -> None:
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        events = await solved(stub, solve_request())
        answer = events[-1].answer
        told = [event.progress for event in events[:-1]]
        assert [one.branch for one in told if one.kind == pb.SolveProgress.KIND_SAMPLE] == list(range(5))
        assert {one.kind for one in told} <= {pb.SolveProgress.KIND_SAMPLE, pb.SolveProgress.KIND_ANSWER}
        assert len(answer.sample.reports) == len(answer.sample.tokens) > 0 and answer.sample.given == 0
        mean = sum(report.logprob for report in answer.sample.reports) / len(answer.sample.reports)
        assert answer.sample.logprob == pytest.approx(mean, abs=1e-5)
        assert answer.spent.samples == 5 and answer.spent.tokens == events[0].progress.tokens
        assert answer.ended == pb.SolveAnswer.ENDED_DONE and answer.verified == pb.SolveAnswer.VERIFIED_UNKNOWN
        assert list(answer.alternatives[0].sample.tokens) == list(answer.sample.tokens)
        assert sum(found.weight for found in answer.alternatives) == pytest.approx(1.0, abs=1e-5)
        assert answer.confidence == answer.alternatives[0].weight and answer.HasField("cost") is not None
        await until(lambda: idle(cloud))


async def test_the_same_request_gives_the_same_answer_among_others_and_elsewhere() -> None:
    async with running_cloud(HashEngine(sequences=3)) as cloud, calling(cloud) as stub:
        first = untimed(await solved(stub, solve_request()))
        others = [solved(stub, solve_request(prompt=[7, number])) for number in range(3)]
        among, *_ = await asyncio.gather(solved(stub, solve_request()), *others)
        assert untimed(among) == first
    async with running_cloud(HashEngine()) as elsewhere, calling(elsewhere) as stub:
        assert untimed(await solved(stub, solve_request())) == first


async def test_the_edges_answers_vote_and_may_win() -> None:
    given = [pb.GivenSample(tokens=[40, 41, 63], logprob=-0.5, finished=True)] * 6
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        answer = (await solved(stub, solve_request(given=given)))[-1].answer
        assert list(answer.sample.tokens) == [40, 41, 63] and answer.sample.given == 1 and not answer.sample.reports
        assert answer.alternatives[0].samples == 6 and answer.confidence >= 0.5


async def test_the_cloud_does_not_draw_the_edges_answers_again() -> None:
    """Both tiers draw with the request's seed; the same noise would make their votes agree for no reason."""
    given = [pb.GivenSample(tokens=[40, 63], logprob=-0.5, finished=True)]
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        alone = (await solved(stub, solve_request()))[-1].answer
        joined = (await solved(stub, solve_request(given=given)))[-1].answer
    own = [[tuple(found.sample.tokens) for found in answer.alternatives] for answer in (alone, joined)]
    assert own[0] and not set(own[0]) & set(own[1])


async def test_alternatives_beyond_what_a_message_holds_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        whole = (await solved(stub, solve_request()))[-1].answer.alternatives
        room = len(whole[0].sample.tokens) + len(whole[1].sample.tokens)
        monkeypatch.setattr(solver, "_MOST_TOLD", room)
        told = (await solved(stub, solve_request()))[-1].answer.alternatives
    assert len(whole) > 2 and list(told) == list(whole[:2])


async def test_neither_progress_nor_alternatives_come_unasked() -> None:
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        events = await solved(stub, solve_request(progress=False, alternatives=False))
        assert len(events) == 1 and not events[0].answer.alternatives


async def test_top_alternatives_of_each_token_come_with_the_reports() -> None:
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        answer = (await solved(stub, solve_request(top_logprobs=3)))[-1].answer
        assert all(len(report.top_ids) == 3 for report in answer.sample.reports)


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.03, 0.06, 0.1, 0.2])
async def test_a_caller_that_goes_at_any_moment_leaves_nothing(moment: float) -> None:
    engine = HashEngine(sequences=4)
    async with running_cloud(engine) as cloud, calling(cloud) as stub:
        call = stub.Solve(solve_request(**LONG))
        await asyncio.sleep(moment)
        call.cancel()
        await until(lambda: idle(cloud))
        assert (await solved(stub, solve_request()))[-1].HasField("answer")


async def test_a_budget_of_time_stops_with_what_there_is() -> None:
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        budget = pb.SolveBudget(samples=64, milliseconds=300)
        answer = (await solved(stub, solve_request(max_tokens=400, budget=budget)))[-1].answer
        assert answer.sample.tokens and answer.spent.tokens < 64 * 400
        budget = pb.SolveBudget(samples=64, milliseconds=1)
        error = await error_of(stub, solve_request(prompt=[5] * 500, budget=budget))
        assert error.code == "late_reply" and error.retryable


async def test_an_engine_that_fails_is_told_as_an_error_to_come_again_for() -> None:
    async with running_cloud(HashEngine(fail_after=4)) as cloud, calling(cloud) as stub:
        error = await error_of(stub, solve_request())
        assert error.code == "engine_failure" and error.retryable
        await until(lambda: idle(cloud))


async def test_an_engine_that_dies_ends_what_it_had_begun() -> None:
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        call = stub.Solve(solve_request(**LONG, progress=True))
        waiting = asyncio.create_task(call.read())
        await until(lambda: cloud.service.active == 1)
        await asyncio.sleep(0.01)
        cloud.service.lost()
        assert (await waiting).error.code == "cloud_unavailable"
        await until(lambda: idle(cloud))


LIMITED = StrategySettings(max_samples=8, max_tokens=1000, max_calls=10, max_s=5.0)

BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": []}, "invalid_request", "empty"),
    ({"prompt": [64]}, "protocol_violation", "vocabulary"),
    ({"prompt": [1] * 512}, "context_length_exceeded", "512"),
    ({"question": [64]}, "protocol_violation", "vocabulary"),
    ({"question": [1] * 513}, "context_length_exceeded", "question"),
    ({"max_tokens": 0}, "invalid_request", "max_tokens"),
    ({"top_logprobs": 21}, "invalid_request", "top_logprobs"),
    ({"stop_tokens": [1] * 65}, "protocol_violation", "stop_tokens"),
    ({"tokenizer_hash": "others"}, "tokenizer_mismatch", "tokenizer"),
    ({"fingerprint": "another"}, "invalid_request", "model"),
    ({"strategy": "guess"}, "unknown_name", "guess"),
    ({"strategy_json": "{"}, "invalid_request", "JSON"),
    ({"strategy_json": "[" * 9000}, "invalid_request", "JSON"),
    ({"verifier_json": '{"kind":' + "[" * 65 + "]" * 65 + "}"}, "invalid_request", "nested"),
    ({"strategy_json": '{"width": 3}'}, "invalid_request", "width"),
    ({"strategy_json": '"' + "x" * MAX_SPEC_BYTES + '"'}, "request_too_large", "strategy"),
    ({"verifier_json": "{}"}, "invalid_request", "kind"),
    ({"verifier_json": '{"kind": "oracle"}'}, "unknown_name", "oracle"),
    ({"budget": pb.SolveBudget()}, "invalid_request", "samples"),
    ({"budget": pb.SolveBudget(samples=9)}, "invalid_request", "budget.samples is 9"),
    ({"budget": pb.SolveBudget(samples=1, tokens=1001)}, "invalid_request", "budget.tokens is 1001"),
    ({"budget": pb.SolveBudget(samples=1, calls=11)}, "invalid_request", "budget.calls is 11"),
    ({"budget": pb.SolveBudget(samples=1, milliseconds=5001)}, "invalid_request", "budget.seconds is 5.001"),
    ({"given": [pb.GivenSample()]}, "protocol_violation", "given"),
    ({"given": [pb.GivenSample(tokens=[64])]}, "protocol_violation", "vocabulary"),
    ({"given": [pb.GivenSample(tokens=[1], logprob=float("nan"))]}, "protocol_violation", "log-prob"),
    ({"given": [pb.GivenSample(tokens=[1], entropy=float("inf"))]}, "protocol_violation", "mean"),
    ({"given": [pb.GivenSample(tokens=[1], energy=float("nan"))]}, "protocol_violation", "mean"),
    ({"given": [pb.GivenSample(tokens=[1])] * (MAX_GIVEN + 1)}, "protocol_violation", "given"),
]


@pytest.mark.parametrize(("changes", "code", "names"), BAD)
async def test_what_is_wrong_is_refused_by_name(changes: dict[str, Any], code: str, names: str) -> None:
    async with running_cloud(HashEngine(), strategies=LIMITED) as cloud, calling(cloud) as stub:
        error = await error_of(stub, solve_request(**changes))
        assert error.code == code and names in error.message, error
        await until(lambda: idle(cloud))


async def test_a_request_without_a_seed_is_refused() -> None:
    request = solve_request()
    request.sampling.ClearField("seed")
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        assert "seed" in (await error_of(stub, request)).message


async def test_a_solve_takes_a_place_and_waits_for_one() -> None:
    admission = AdmissionSettings(places=1, queue_length=1, queue_wait_s=20.0)
    async with running_cloud(HashEngine(), admission=admission) as cloud, calling(cloud) as stub:
        first = stub.Solve(solve_request(**LONG))
        await until(lambda: cloud.service.active == 1)
        second = stub.Solve(solve_request())
        assert (await second.read()).notice.kind == pb.Notice.KIND_SLOW_DOWN
        assert (await error_of(stub, solve_request())).code == "overloaded"
        first.cancel()
        while not (event := await second.read()).HasField("answer"):
            assert event.HasField("progress")


async def test_drawn_tokens_are_on_the_tenants_account() -> None:
    admission = AdmissionSettings(tokens_per_second=1.0, token_burst=30, slow_wait_s=0.01)
    async with running_cloud(HashEngine(), admission=admission) as cloud, calling(cloud) as stub:
        assert (await solved(stub, solve_request(samples=8)))[-1].HasField("answer")
        error = await error_of(stub, solve_request())
        assert error.code == "overloaded" and error.retry_after_ms > 0


async def test_signs_of_life_come_while_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve_stream, "WORKING_S", 0.01)
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        kinds = [event.WhichOneof("body") for event in await solved(stub, solve_request(**LONG, progress=False))]
        assert "working" in kinds and kinds[-1] == "answer"


async def test_an_edge_that_does_not_read_is_given_up() -> None:
    class Unread:
        async def write(self, event: pb.SolveEvent) -> None:
            await asyncio.Event().wait()

    context: Any = Unread()
    order = read_solve(solve_request(), Limits(vocabulary=64, context=512, max_draft=9), StrategySettings())
    stream = SolveStream(context, 1, order, CloudMetrics(), write_timeout_s=0.02)
    stream.answer(Noted("sample", 0, None, None, 1))
    with pytest.raises(LateReply):
        await stream.write_events()


async def test_a_cloud_that_goes_takes_no_new_ones_and_waits_for_those_it_has() -> None:
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        working = asyncio.create_task(solved(stub, solve_request(max_tokens=100)))
        await until(lambda: cloud.service.active == 1)
        await cloud.service.drain(20.0)
        assert (await working)[-1].HasField("answer")
        error = await error_of(stub, solve_request())
        assert error.code == "cloud_unavailable" and error.retryable


async def test_metrics_count_and_logs_hold_no_prompt(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        answer = (await solved(stub, solve_request(prompt=[40, 41, 42])))[-1].answer
        await error_of(stub, solve_request(strategy="made up"))
        await until(lambda: idle(cloud))
        text = cloud.metrics.render().decode()
    assert 'updraft_solves_total{end="done",strategy="self-consistency"} 1.0' in text
    assert 'updraft_solves_total{end="unknown_name",strategy="unknown"} 1.0' in text
    assert f"updraft_solve_tokens_total {answer.spent.tokens}.0" in text and "updraft_solves_active 0.0" in text
    assert "HIJ" not in caplog.text  # what the prompt says


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "judged", JudgedSamples)
    monkeypatch.setitem(VERIFIERS, "letter", LetterVerifier)


@pytest.mark.usefixtures("judged")
async def test_a_verifier_judges_where_it_is_allowed() -> None:
    request = solve_request(strategy="judged", verifier_json='{"kind": "letter", "letter": "A"}', samples=6)
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        described = await stub.Describe(pb.DescribeRequest())
        assert (
            {"letter", "number"} <= set(described.verifiers)
            and "unit-tests" not in described.verifiers
            and "judged" in described.strategies
        )
        events = await solved(stub, request)
        kinds = [event.progress.kind for event in events if event.HasField("progress")]
        assert kinds == [pb.SolveProgress.KIND_SAMPLE] * 6 + [pb.SolveProgress.KIND_SCORE] * 6
        assert events[-1].answer.verified in (pb.SolveAnswer.VERIFIED_YES, pb.SolveAnswer.VERIFIED_NO)
        assert events[-1].answer.spent.verifier_calls == 6
    async with (
        running_cloud(HashEngine(), strategies=StrategySettings(verifiers=())) as strict,
        calling(strict) as stub,
    ):
        assert (await error_of(stub, request)).code == "unknown_name"


@pytest.mark.usefixtures("judged")
async def test_a_verifier_that_crashes_leaves_the_answer_unverified_and_says_so() -> None:
    request = solve_request(strategy="judged", verifier_json='{"kind": "letter", "letter": "A", "fails": true}')
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        answer = (await solved(stub, request))[-1].answer
        assert answer.verified == pb.SolveAnswer.VERIFIED_UNKNOWN
        assert list(answer.complaints) == ["letter failed: RuntimeError"]
        assert b"updraft_verifier_failures_total 1.0" in cloud.metrics.render()


async def test_a_strategy_that_breaks_is_an_engine_failure_without_its_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    words = "the secret prompt"

    async def breaks(self: object, work: object) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(STRATEGIES["self-consistency"], "solve", breaks)
    async with running_cloud(HashEngine()) as cloud, calling(cloud) as stub:
        assert (await error_of(stub, solve_request())).code == "engine_failure"
        await until(lambda: idle(cloud))
    assert "RuntimeError" in caplog.text and "secret" not in caplog.text
