"""Both tiers on the real pair: SmolLM2-135M-Instruct as shipped in the cloud, requantised to Q4_0 on the edge."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bench.relay import Relay
from tests.fakes.tiers import complete, running_agent, running_cloud
from updraft.engine import Engine, open_engine
from updraft.generation import ChatMessage, Completion, GenerationRequest
from updraft.modes import parse_settings
from updraft.sampling import SamplingParams
from updraft_cloud.engine.host import LocalHost
from updraft_cloud.server import CloudServer
from updraft_edge.agent import Agent

pytestmark = pytest.mark.smollm2

PROMPTS = [
    "Explain in two sentences why the sky is blue.",
    "Write the first lines of a story about a lighthouse keeper.",
    "List three uses of a paper clip.",
]
LENGTH = 24


def ask(mode: str, prompt: str, temperature: float = 0.0, **extra: object) -> GenerationRequest:
    return GenerationRequest(
        messages=[ChatMessage("user", prompt)],
        sampling=SamplingParams(temperature=temperature, seed=17),
        max_tokens=LENGTH,
        settings=parse_settings({"mode": mode, **extra}),
    )


@pytest.fixture
def engines(smollm2_path: Path, smollm2_q4_0_path: Path) -> Iterator[tuple[Engine, Engine]]:
    small = open_engine(smollm2_q4_0_path, context=512, sequences=4, threads=1)
    large = open_engine(smollm2_path, context=512, sequences=4, threads=1)
    yield small, large
    small.shutdown()
    large.shutdown()


@pytest.fixture
async def tiers(engines: tuple[Engine, Engine]) -> AsyncIterator[tuple[Agent, CloudServer]]:
    small, large = engines
    async with running_cloud(large) as cloud, running_agent(small, cloud.address) as agent:
        yield agent, cloud


@pytest.mark.parametrize("temperature", [0.0, 0.8])
async def test_draft_writes_the_text_of_the_cloud_alone(tiers: tuple[Agent, CloudServer], temperature: float) -> None:
    agent, _ = tiers
    tokens = passes = 0
    for prompt in PROMPTS:
        _, alone = await complete(agent, ask("cloud", prompt, temperature))
        # The rule that goes by measured costs may find that short runs are quickest, on a busy machine.
        _, drafted = await complete(agent, ask("draft", prompt, temperature, stop={"rule": "fixed", "length": 6}))
        assert drafted.text == alone.text
        assert not drafted.degraded
        tokens += drafted.statistics.tokens
        passes += drafted.statistics.cloud_passes
    assert passes < 0.6 * tokens


async def test_answers_that_share_passes_are_the_answers_given_alone(tiers: tuple[Agent, CloudServer]) -> None:
    agent, cloud = tiers
    requests = [ask(mode, prompt, 0.8) for mode in ("draft", "cloud") for prompt in PROMPTS[:2]]
    alone = [(await complete(agent, request))[1].text for request in requests]
    assert isinstance(cloud.host, LocalHost)
    statistics = cloud.host.worker.loop.statistics
    before = statistics.passes, statistics.runs
    together = await asyncio.gather(*(complete(agent, request) for request in requests))
    assert [completion.text for _, completion in together] == alone
    passes, runs = statistics.passes - before[0], statistics.runs - before[1]
    assert passes < runs


async def test_a_cut_stream_changes_nothing(tiers: tuple[Agent, CloudServer], engines: tuple[Engine, Engine]) -> None:
    agent, cloud = tiers
    _, expected = await complete(agent, ask("cloud", PROMPTS[1], 0.8))
    host, port = cloud.address.rsplit(":", 1)
    rng = random.Random(4)
    async with Relay(host, int(port), delay_s=0.01) as relay:
        async with link_through(agent, relay):
            answer = agent.generate(ask("draft", PROMPTS[1], 0.8))
            items = []
            async for item in answer:
                items.append(item)
                if rng.random() < 0.1:
                    relay.cut()
    completion = items[-1]
    assert isinstance(completion, Completion)
    assert completion.text == expected.text
    assert completion.statistics.reopened > 0
    assert not completion.degraded


class link_through:  # reads as a verb where it is used
    """Point a running agent at a relay for the while."""

    def __init__(self, agent: Agent, relay: Relay) -> None:
        assert agent.link is not None
        self._link, self._relay = agent.link, relay

    async def __aenter__(self) -> None:
        self._settings = self._link.settings
        await self._link.close()
        self._link.settings = self._settings.model_copy(update={"address": self._relay.address})

    async def __aexit__(self, *exception: object) -> None:
        await self._link.close()
        self._link.settings = self._settings


async def test_span_mode_shares_the_writing(tiers: tuple[Agent, CloudServer]) -> None:
    agent, _ = tiers
    span = {"escalate": 1.0, "hand_back": 0.8, "min_stay": 4, "window": 3}
    _, completion = await complete(agent, ask("span", PROMPTS[1], 0.8, span=span))
    assert completion.statistics.edge_tokens > 0
    assert completion.statistics.cloud_tokens > 0
