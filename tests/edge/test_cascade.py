"""Mode `cascade`: from the cloud's own text at no tolerance to the edge's own at full, whatever the link does."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.edge.test_agent import LENGTH, ask, edge_engine
from tests.edge.test_faults import cut_often, relay_to
from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_agent, running_cloud
from updraft.errors import ProtocolViolation
from updraft.generation import GenerationRequest
from updraft.mode_settings import AcceptanceSettings
from updraft.sampling import SamplingParams
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge import wire

FIXED = {"stop": {"rule": "fixed", "length": 5}}


def cascade(rule: dict[str, Any], **changes: Any) -> GenerationRequest:
    return ask("cascade", extra={"acceptance": rule, **FIXED}, **changes)


async def test_without_tolerance_it_is_the_clouds_own_greedy_text() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        _, alone = await complete(agent, ask("cloud", temperature=0.0))
        for rule in ({"alpha": 0}, {"rule": "likelihood", "threshold": 1}):
            _, completion = await complete(agent, cascade(rule, temperature=0.0))
            assert completion.token_ids == alone.token_ids
            assert completion.statistics.tolerated == 0


async def test_more_tolerance_lets_more_of_the_drafts_stand() -> None:
    shares = []
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(noise=2.0), cloud.address) as agent:
        for alpha in (0.0, 0.5, 0.95, 1.0):
            _, completion = await complete(agent, cascade({"alpha": alpha}, temperature=0.0, max_tokens=200))
            statistics = completion.statistics
            assert statistics.tolerated <= statistics.accepted == statistics.edge_tokens
            shares.append(statistics.accepted / statistics.drafted)
    assert shares == sorted(shares)
    assert shares[0] < 0.9
    assert shares[-1] > 0.98  # the last run may be longer than the answer


async def test_tolerated_tokens_are_counted_and_reported_with_the_clouds_own_numbers() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(noise=2.0), cloud.address) as agent:
        request = cascade({"alpha": 0.99}, logprobs=True, top_logprobs=1, temperature=0.0)
        events, completion = await complete(agent, request)
    unlikely = [event for event in events if event.logprob < event.top[0][1] - 1e-6]
    assert completion.statistics.tolerated > 0
    assert len([event for event in unlikely if event.origin == "edge"]) > 0
    assert all(event.verified for event in events)


@pytest.mark.parametrize("rule", [{"alpha": 0.8}, {"rule": "likelihood", "threshold": 0.05}])
async def test_a_session_opened_again_keeps_its_rule(rule: dict[str, Any]) -> None:
    async with running_cloud(HashEngine()) as cloud, relay_to(cloud.address, delay_s=0.001) as relay:
        async with running_agent(edge_engine(), cloud.address) as near:
            _, expected = await complete(near, cascade(rule, max_tokens=300))
        async with running_agent(edge_engine(), relay.address, link={"reconnect_attempts": 9}) as agent:
            cutting = asyncio.create_task(cut_often(relay, random.Random(1)))
            _, completion = await complete(agent, cascade(rule, max_tokens=300))
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
    assert completion.token_ids == expected.token_ids
    assert (completion.degraded, completion.statistics.tolerated) == (False, expected.statistics.tolerated)
    assert completion.statistics.tolerated > 0
    assert completion.statistics.reopened > 0


async def test_a_cloud_that_is_away_leaves_the_answer_to_the_edge() -> None:
    async with running_agent(edge_engine(), "127.0.0.1:9") as agent:
        _, completion = await complete(agent, cascade({}))
    assert (completion.degraded, completion.statistics.tokens) == (True, LENGTH)


def test_a_verdict_that_tolerates_more_than_it_accepts_is_refused() -> None:
    log = TokenLog([1, 2])
    verdict = pb.Verdict(position=3, accepted=1, tolerated=2, log_hash=log.hash_with([5]))
    with pytest.raises(ProtocolViolation, match="fit"):
        wire.read_verdict(verdict, log, [5])


def test_the_rule_travels_in_this_mode_alone() -> None:
    opening = wire.Opening("t", SamplingParams(seed=1), 4, [], report=False, top_logprobs=0, ignore_end=False)
    assert not wire.open_frame(opening, TokenLog([1])).open.HasField("acceptance")
    likelihood = AcceptanceSettings(rule="likelihood", threshold=0.25, temperature=0.5)
    changed = wire.Opening("t", SamplingParams(seed=1), 4, [], False, 0, False, acceptance=likelihood)
    frame = wire.open_frame(changed, TokenLog([1])).open.acceptance
    assert (frame.likelihood.threshold, frame.likelihood.temperature) == (0.25, 0.5)
