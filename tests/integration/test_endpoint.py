"""The agent's own HTTP server as somebody else's endpoint, with a real model behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.tiers import complete
from updraft.config import EdgeSettings, EndpointSettings, ListenSettings, RulesSettings
from updraft.engine import open_engine
from updraft.generation import ChatMessage, GenerationRequest
from updraft.modes import Mode, ModeSettings, Origin
from updraft.sampling import SamplingParams
from updraft_edge.agent import Agent
from updraft_edge.server import EdgeServer

pytestmark = pytest.mark.smollm2

ANY_PORT = ListenSettings(port=0)
QUESTION = "Explain in two sentences why the sky is blue."


def ask(mode: Mode, *, chat: bool = True, temperature: float = 0.0, most: int = 40) -> GenerationRequest:
    return GenerationRequest(
        messages=[ChatMessage("user", QUESTION)] if chat else None,
        prompt=None if chat else "Once upon a time, in a small",
        sampling=SamplingParams(temperature=temperature, seed=17),
        max_tokens=most,
        settings=ModeSettings(mode=mode),
    )


@pytest.fixture
async def pair(smollm2_path: Path, smollm2_q4_0_path: Path) -> AsyncIterator[tuple[Agent, Agent]]:
    """An agent whose cloud is the other one's HTTP server, and that one, which has the large model and writes alone."""
    alone = EdgeSettings(local_only=True, http=ANY_PORT, grpc=ANY_PORT, mode=ModeSettings(mode=Mode.EDGE))
    large = open_engine(smollm2_path, context=512, sequences=2, threads=1)
    small = open_engine(smollm2_q4_0_path, context=512, sequences=2, threads=1)
    async with Agent(alone, engine=large) as far, EdgeServer(alone, agent=far, grace_s=1) as server:
        endpoint = EndpointSettings(url=f"http://{server.http_address}/v1", model="updraft")
        settings = EdgeSettings(endpoint=endpoint, rules=RulesSettings(keep_local=()))
        async with Agent(settings, engine=small) as near:
            yield near, far


async def test_the_text_through_the_endpoint_is_its_own(pair: tuple[Agent, Agent]) -> None:
    near, far = pair
    for chat in (True, False):
        for temperature in (0.0, 0.8):
            _, own = await complete(far, ask(Mode.EDGE, chat=chat, temperature=temperature))
            events, through = await complete(near, ask(Mode.CLOUD, chat=chat, temperature=temperature))
            assert (through.text, through.finish_reason) == (own.text, own.finish_reason)
            assert {event.origin for event in events} == {Origin.CLOUD} and not through.degraded
            statistics = through.statistics
            assert statistics.endpoint_answer_tokens == own.statistics.tokens and not statistics.endpoint_estimated


async def test_it_grades_and_rewrites_steps(pair: tuple[Agent, Agent]) -> None:
    near, _ = pair
    _, completion = await complete(near, ask(Mode.REASON, most=80))
    assert not completion.degraded and completion.text
    statistics = completion.statistics
    assert statistics.endpoint_calls >= len(statistics.step_scores) > 0
    assert all(0 <= score <= 9 for score in statistics.step_scores)
    assert statistics.grades_without_logprobs == 0
