"""The comparison on engines without a model; the cloud is in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from tests.fakes.engine import HashEngine
from tests.fakes.tiers import running_agent, running_cloud
from updraft.demo.measure import WAYS, measure
from updraft.demo.report import Way
from updraft_cloud.server import CloudServer
from updraft_edge.agent import Agent

PROMPTS = ("first prompt", "another")


@contextlib.asynccontextmanager
async def tiers(noise: float = 0.6) -> AsyncIterator[tuple[Agent, CloudServer]]:
    edge = HashEngine(noise=noise, own_seed=2)
    async with running_cloud(HashEngine()) as cloud, running_agent(edge, cloud.address) as agent:
        yield agent, cloud


async def test_every_way_is_measured_on_every_prompt() -> None:
    begun: list[Way] = []
    async with tiers() as (agent, _):
        rows = await measure(agent, PROMPTS, 20, on_answer=begun.append)
    assert begun == [*WAYS, *WAYS]
    assert [(row.mode, row.temperature) for row in rows] == [(way.mode.value, way.temperature) for way in WAYS]
    found = {(row.mode, row.temperature): row for row in rows}
    for temperature in (0.0, 0.8):
        cloud, draft = found["cloud", temperature], found["draft", temperature]
        assert cloud.lossless and draft.lossless
        assert cloud.cloud_share == 1.0
        assert draft.cloud_passes_per_token < cloud.cloud_passes_per_token <= 1.0
        assert draft.cloud_positions_per_token >= draft.cloud_passes_per_token
    edge = found["edge", 0.0]
    assert (edge.cloud_share, edge.cloud_passes_per_token, edge.bytes_up_per_token) == (0, 0, 0)
    assert all(row.prompts == 2 and row.degraded == 0 and row.tokens_per_second > 0 for row in rows)


async def test_an_edge_that_disagrees_writes_another_text_and_draft_does_not() -> None:
    async with tiers(noise=3.0) as (agent, _):
        rows = await measure(agent, PROMPTS, 20, on_answer=lambda way: None)
    same = {(row.mode, row.temperature): row.same_text for row in rows}
    assert same["edge", 0.0] == 0
    assert same["draft", 0.0] == same["draft", 0.8] == 2
