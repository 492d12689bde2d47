"""Asking the cloud how probable tokens are: what is sent, what is refused, and an answer that goes on as before."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from tests.edge.test_agent import edge_engine
from tests.edge.test_faults import relay_to
from tests.fakes.engine import HashEngine
from tests.fakes.tiers import running_agent, running_cloud
from updraft.errors import ProtocolViolation
from updraft.generation import Statistics
from updraft.sampling import SamplingParams
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge import wire
from updraft_edge.cloud_session import CloudSession

OPENING = wire.Opening("letters", SamplingParams(temperature=0.8, seed=4), 20, [], False, 0, True)


@asynccontextmanager
async def session(address: str, log: TokenLog, **link: Any) -> AsyncIterator[tuple[CloudSession, Statistics]]:
    statistics = Statistics()
    async with running_agent(edge_engine(), address, link=link) as agent:
        assert agent.link is not None
        one = CloudSession(agent.link, OPENING, log, statistics)
        try:
            yield one, statistics
        finally:
            await one.close()


def expected(prefix: Sequence[int]) -> Any:
    row = HashEngine()._row(tuple(prefix)).astype(np.float64)
    return row - math.log(np.exp(row).sum())


async def test_scores_come_back_counted_and_the_answer_goes_on() -> None:
    log = TokenLog([1, 2, 3])
    async with running_cloud(HashEngine()) as cloud, session(cloud.address, log) as (one, statistics):
        scored = await one.score([5, 6], choices=[7, 8], each=True, top_logprobs=2)
        assert [report.token for report in scored.reports] == [5, 6]
        assert scored.reports[1].logprob == pytest.approx(expected([1, 2, 3, 5])[6], abs=1e-4)
        assert scored.choices == pytest.approx(list(expected([1, 2, 3, 5, 6])[[7, 8]]), abs=1e-4)
        assert all(len(report.top) == 2 for report in scored.reports)
        assert (statistics.scored, statistics.round_trips, statistics.drafted) == (2, 1, 0)
        first = await one.verify([])
    async with running_cloud(HashEngine()) as cloud, session(cloud.address, TokenLog([1, 2, 3])) as (plain, _):
        own = (await plain.verify([])).own
    assert own is not None
    assert first.own is not None
    assert (own.token, own.logprob) == (first.own.token, first.own.logprob)


async def test_a_score_after_a_lost_stream_is_asked_again() -> None:
    log = TokenLog([1, 2, 3])
    async with running_cloud(HashEngine()) as cloud, relay_to(cloud.address) as relay:
        async with session(relay.address, log) as (one, statistics):
            before = await one.score([5], choices=[7])
            log.extend([9])
            await one.score([5], choices=[7])
            relay.cut()
            log.extend([4])
            after = await one.score([5], choices=[7])
    assert before.choices == pytest.approx([expected([1, 2, 3, 5])[7]], abs=1e-4)
    assert after.choices == pytest.approx([expected([1, 2, 3, 9, 4, 5])[7]], abs=1e-4)
    assert statistics.reopened == 1


async def test_more_than_the_context_holds_is_refused() -> None:
    async with running_cloud(HashEngine(context=64)) as cloud, session(cloud.address, TokenLog([1, 2])) as (one, _):
        with pytest.raises(ProtocolViolation, match="64"):
            await one.score([1] * 63, choices=[1])


NAN = float("nan")


@pytest.mark.parametrize(
    "message",
    [
        pb.Scored(choices=[-1.0], reports=[pb.TokenReport()]),
        pb.Scored(choices=[-1.0, -2.0]),
        pb.Scored(choices=[-1.0, -2.0], reports=[pb.TokenReport()] * 2),
        pb.Scored(choices=[-1.0, NAN], reports=[pb.TokenReport()]),
        pb.Scored(choices=[-1.0, float("-inf")], reports=[pb.TokenReport()]),
        pb.Scored(choices=[-1.0, -1.0], reports=[pb.TokenReport(logprob=NAN)]),
    ],
)
def test_answers_that_do_not_fit_the_question_are_refused(message: pb.Scored) -> None:
    with pytest.raises(ProtocolViolation):
        wire.read_scored(message, [5], [7, 8], each=True)
