"""Both tiers under limits: an edge moves when asked, comes again when told to, and else goes on alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.edge.test_agent import ask, edge_engine
from tests.fakes.engine import HashEngine
from tests.fakes.raw_edge import RawEdge
from tests.fakes.staged_engine import FakeStagedEngine
from tests.fakes.tiers import complete, running_agent, running_cloud, until
from updraft.config import AdmissionSettings
from updraft.engine.base import Output, Run
from updraft.errors import Overloaded, UpdraftError
from updraft.generation import Completion
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud.service import CollaborationService
from updraft_cloud.stream import Context
from updraft_edge import wire
from updraft_edge.agent import Agent
from updraft_edge.breaker import BreakerState, ProbingBreaker

SPAN = {"span": {"escalate": 0.5, "hand_back": 0.1, "min_stay": 2}}
LENGTH = 300


class SlowEngine(HashEngine):
    """Takes its time, so that what happens in the middle of an answer does."""

    def forward(self, runs: Sequence[Run]) -> list[Output]:
        time.sleep(0.001)
        return super().forward(runs)


def limited(engine: HashEngine | None = None, **admission: Any) -> Any:
    return running_cloud(engine or HashEngine(), admission=AdmissionSettings(**admission))


def request(mode: str, length: int = LENGTH) -> Any:
    return ask(mode, max_tokens=length, extra=SPAN if mode == "span" else {})


async def unhurried(mode: str) -> Completion:
    """The answer that a cloud without limits gives."""
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        return (await complete(agent, request(mode)))[1]


def breaker_of(agent: Agent) -> ProbingBreaker:
    assert agent.link is not None
    return agent.link.breaker


@pytest.mark.parametrize("mode", ["draft", "cloud", "span"])
@pytest.mark.parametrize("grace_s", [30.0, 0.01])
async def test_an_old_session_moves_without_losing_a_token(mode: str, grace_s: float) -> None:
    expected = await unhurried(mode)
    age_s = 0.04 if grace_s > 1 else 0.1  # there must be time for something between two openings
    async with limited(SlowEngine(), session_age_s=age_s, age_grace_s=grace_s) as cloud:
        async with running_agent(edge_engine(), cloud.address, link={"reconnect_attempts": 50}) as agent:
            _, completion = await complete(agent, request(mode))
            assert completion.token_ids == expected.token_ids
            assert not completion.degraded
            assert breaker_of(agent).closed
            if mode == "draft" or grace_s < 1:  # a span is written to its end if there is time for it
                assert completion.statistics.reopened > 0
        await until(lambda: cloud.service.active == 0)


@pytest.mark.parametrize("admission", [{"places": 1}, {"tenant_sessions": 1, "age_grace_s": 0.1}])
async def test_a_session_moves_where_there_is_room_for_one_alone(admission: dict[str, Any]) -> None:
    expected = await unhurried("draft")
    async with limited(session_age_s=0.1, **admission) as cloud:
        async with running_agent(edge_engine(), cloud.address) as agent:
            _, completion = await complete(agent, request("draft"))
            assert breaker_of(agent).closed
        await until(lambda: cloud.service.active == 0)
    assert completion.token_ids == expected.token_ids
    assert not completion.degraded
    assert completion.statistics.reopened > 0


async def test_hidden_states_move_with_their_session() -> None:
    def early(length: int) -> Any:
        return ask("exit", max_tokens=length, extra={"exit": {"threshold": 1.0}})

    async with running_cloud(FakeStagedEngine(stages=4)) as cloud:
        async with running_agent(FakeStagedEngine(stages=4, deepest=2), cloud.address) as agent:
            _, expected = await complete(agent, early(100))
    settings = AdmissionSettings(session_age_s=0.05, age_grace_s=30.0)
    async with running_cloud(FakeStagedEngine(stages=4), admission=settings) as cloud:
        async with running_agent(FakeStagedEngine(stages=4, deepest=2), cloud.address) as agent:
            _, completion = await complete(agent, early(100))
    assert completion.token_ids == expected.token_ids
    assert not completion.degraded
    assert completion.statistics.reopened > 0


async def test_where_no_other_place_opens_the_old_stream_goes_on() -> None:
    expected = await unhurried("draft")
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        answer = agent.generate(request("draft"))
        events: list[Any] = [await anext(answer) for _ in range(20)]
        draining = asyncio.create_task(cloud.service.drain(10.0))
        events += [item async for item in answer]
        completion = events.pop()
        assert isinstance(completion, Completion)
        assert completion.token_ids == expected.token_ids
        assert (completion.degraded, completion.statistics.reopened) == (False, 0)
        assert breaker_of(agent).closed
        await draining


async def test_all_streams_of_an_answer_carry_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    session = CollaborationService.Session

    async def watched(self: CollaborationService, frames: AsyncIterator[pb.EdgeFrame], context: Context) -> None:
        names.extend(str(value) for key, value in context.invocation_metadata() or () if key == "x-updraft-session")
        await session(self, frames, context)

    monkeypatch.setattr(CollaborationService, "Session", watched)
    async with limited(session_age_s=0.04) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        _, first = await complete(agent, request("draft"))
        _, second = await complete(agent, request("draft", 8))
    streams = 2 + first.statistics.reopened + second.statistics.reopened
    assert len(names) == streams > 2
    assert len(set(names)) == 2
    assert all(len(name) >= 16 for name in names)


@pytest.mark.parametrize("mode", ["draft", "cloud"])
async def test_an_edge_waits_for_an_overloaded_cloud_as_long_as_it_was_told(mode: str) -> None:
    expected = await unhurried(mode)
    async with limited(places=1, queue_length=0) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        async with RawEdge(cloud.address) as first:
            await first.open([1, 2, 3])
            await first.read_body("opened")
            answering = asyncio.create_task(complete(agent, request(mode)))
            await until(lambda: cloud.service.admission.refused.total() > 0)
        _, completion = await answering
        assert completion.token_ids == expected.token_ids
        assert not completion.degraded
        assert breaker_of(agent).closed


async def test_an_edge_goes_on_alone_where_it_would_wait_too_long() -> None:
    async with limited(places=1, queue_length=0) as cloud, RawEdge(cloud.address) as first:
        link = {"overload_wait_s": 0.01, "breaker_failures": 1}
        async with running_agent(edge_engine(), cloud.address, link=link) as agent:
            await first.open([1, 2, 3])
            await first.read_body("opened")
            _, completion = await complete(agent, request("draft", 20))
            assert (completion.degraded, completion.degraded_reason) == (True, "overloaded")
            assert completion.statistics.tokens == 20
            refused = cloud.service.admission.refused.total()
            assert refused >= 1
            assert breaker_of(agent).closed, "an overloaded cloud is not dead"
            assert agent.link is not None
            agent.link.heed(overloaded(60.0))
            _, completion = await complete(agent, request("draft", 20))
            assert completion.degraded_reason == "overloaded"
            assert completion.statistics.bytes_up == 0, "nobody asks before the time that it was told"
            assert cloud.service.admission.refused.total() == refused


async def test_an_edge_that_is_slowed_gets_the_same_text() -> None:
    expected = await unhurried("draft")
    async with limited(tokens_per_second=400, token_burst=20) as cloud:
        async with running_agent(edge_engine(), cloud.address) as agent:
            _, completion = await complete(agent, request("draft"))
        assert cloud.service.admission.slowed > 0
    assert completion.token_ids == expected.token_ids
    assert not completion.degraded


async def test_drafts_are_no_longer_than_the_cloud_takes() -> None:
    expected = await unhurried("draft")
    async with limited(draft_tokens=2) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        await until(lambda: agent.link is not None and agent.link.cloud is not None)
        _, completion = await complete(agent, request("draft"))
    assert completion.token_ids == expected.token_ids
    assert not completion.degraded


async def test_very_many_answers_at_once_are_all_written() -> None:
    """More edges than places and queue together: every answer completes, with the cloud's help or without."""
    async with running_cloud(
        HashEngine(sequences=4), admission=AdmissionSettings(places=4, queue_length=8), max_sessions=12
    ) as cloud:
        async with running_agent(edge_engine(sequences=40), cloud.address, link={"overload_wait_s": 0.5}) as agent:
            answers = await asyncio.gather(*(complete(agent, request("draft", 24)) for _ in range(40)))
            assert all(completion.statistics.tokens == 24 for _, completion in answers)
            assert {completion.degraded_reason for _, completion in answers} <= {None, "", "overloaded"}
            helped = [completion.token_ids for _, completion in answers if not completion.degraded]
            assert helped
            assert all(tokens == helped[0] for tokens in helped)
            assert breaker_of(agent).closed
        await until(lambda: cloud.service.active == 0)
        assert cloud.service.admission.sessions == 0


async def test_a_probe_that_finds_an_overloaded_cloud_has_found_it() -> None:
    async def probe() -> None:
        raise overloaded(1.0)

    breaker = ProbingBreaker(1, 0.01, probe)
    breaker.failure()
    assert breaker.state is BreakerState.OPEN
    await until(lambda: breaker.closed)
    await breaker.close()


@pytest.mark.parametrize("code", ["engine_failure", "late_reply"])
def test_what_went_wrong_there_is_a_reason_to_open_the_session_again(code: str) -> None:
    error = wire.read_error(pb.Error(code=code, message="m", retryable=True, retry_after_ms=1500))
    assert error.code == "cloud_unavailable"
    assert error.retry_after_s == 1.5


def overloaded(seconds: float) -> UpdraftError:
    error = Overloaded("busy")
    error.retry_after_s = seconds
    return error
