"""Mode `exit` and its link: whatever goes up, whoever else is there and however often the stream breaks, one text."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.edge.test_agent import LENGTH, ask
from tests.edge.test_faults import cut_often, relay_to
from tests.fakes.engine import HashEngine
from tests.fakes.staged_engine import FakeStagedEngine
from tests.fakes.tiers import complete, idle, running_agent, running_cloud, until
from updraft.errors import TrunkMismatch
from updraft.exits.carry import CARRIES, Carry
from updraft.generation import GenerationRequest
from updraft.modes import Origin
from updraft.sampling import Sampler

STAGES = 4


def edge(**options: Any) -> FakeStagedEngine:
    return FakeStagedEngine(**{"stages": STAGES, "deepest": 2, **options})


def whole(**options: Any) -> FakeStagedEngine:
    return FakeStagedEngine(**{"stages": STAGES, **options})


def early(prompt: str = "hello there", *, length: int = LENGTH, **exits: Any) -> GenerationRequest:
    return ask("exit", prompt, max_tokens=length, extra={"exit": exits})


def wholes_own(request: GenerationRequest, prompt: list[int], tokens: list[int], index: int) -> int:
    """The token that the whole model draws after a part of an answer."""
    sampler = Sampler(request.sampling, prompt)
    sampler.commit(tokens[:index])
    log = prompt + tokens[:index]
    return sampler.draw(HashEngine()._row(tuple(log)), len(log)).token


@pytest.mark.parametrize("carry", CARRIES)
@pytest.mark.parametrize(("rough", "split"), [(False, 0), (True, 1)])
async def test_never_confident_is_the_text_of_the_staged_model_run_whole(carry: Carry, rough: bool, split: int) -> None:
    own: dict[str, Any] = {"carry": carry if rough else None, "split": split}
    async with running_cloud(whole(**own)) as cloud, running_agent(edge(**own), cloud.address) as agent:
        for prompt in ("hello", "x" * 150):
            _, alone = await complete(agent, ask("cloud", prompt))
            events, answer = await complete(agent, early(prompt, threshold=1.0, dtype=carry))
            assert (answer.token_ids, answer.text) == (alone.token_ids, alone.text)
            assert {event.origin for event in events} == {Origin.CLOUD}
            remaining, layers = answer.statistics.cloud_layers, alone.statistics.cloud_layers
            assert remaining * STAGES == layers * (STAGES - 1 - split)


@given(
    threshold=st.floats(0.2, 1.0),
    seed=st.integers(0, 10**6),
    carry=st.sampled_from(CARRIES),
    split=st.integers(0, 2),
    deepest=st.integers(0, 2),
    noise=st.floats(0.0, 3.0),
    prompt=st.integers(1, 120),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hidden_states_and_tokens_give_one_text_at_any_threshold(
    threshold: float, seed: int, carry: Carry, split: int, deepest: int, noise: float, prompt: int
) -> None:
    async def check() -> None:
        own: dict[str, Any] = {"seed": seed, "exit_noise": noise, "split": min(split, deepest), "carry": carry}
        async with running_cloud(whole(**own)) as cloud, running_agent(edge(**own), cloud.address) as agent:
            exits: dict[str, Any] = {"threshold": threshold, "deepest": deepest}
            text = ("abcdefgh" * 15)[:prompt]
            _, hidden = await complete(agent, early(text, carry="hidden", **exits))
            _, tokens = await complete(agent, early(text, carry="tokens", **exits))
            assert hidden.token_ids == tokens.token_ids
            assert tokens.statistics.hidden_bytes_up == 0
            assert hidden.statistics.cloud_tokens == tokens.statistics.cloud_tokens
            if hidden.statistics.cloud_tokens:
                assert hidden.statistics.hidden_bytes_up > 0
                assert hidden.statistics.cloud_layers < tokens.statistics.cloud_layers

    asyncio.run(check())


async def test_every_token_that_the_cloud_gives_is_the_whole_models_own() -> None:
    async with running_cloud(whole()) as cloud, running_agent(edge(), cloud.address) as agent:
        request = early(threshold=0.5, length=120)
        events, answer = await complete(agent, request)
        prompt = agent.encode("hello there")
    asked = [event.index for event in events if event.origin is Origin.CLOUD]
    assert 0 < len(asked) < len(events)
    for index in asked:
        assert events[index].token == wholes_own(request, prompt, answer.token_ids, index)
    statistics = answer.statistics
    assert statistics.round_trips == len(asked) == statistics.cloud_passes
    # The cloud computes every position before its last token once, from its first stage on.
    assert statistics.cloud_layers == (len(prompt) + asked[-1]) * 2 * (STAGES - 1)


@pytest.mark.parametrize("seed", range(2))
async def test_a_stream_that_is_cut_changes_nothing_but_the_time(seed: int) -> None:
    async with running_cloud(whole()) as cloud, relay_to(cloud.address, delay_s=0.001) as relay:
        async with running_agent(edge(), cloud.address) as near:
            _, expected = await complete(near, early(threshold=0.6, length=200))
        async with running_agent(edge(), relay.address, link={"reconnect_attempts": 9}) as agent:
            cutting = asyncio.create_task(cut_often(relay, random.Random(seed)))
            _, answer = await complete(agent, early(threshold=0.6, length=200))
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
    assert answer.token_ids == expected.token_ids
    assert not answer.degraded
    assert answer.statistics.reopened > 0


async def test_a_cloud_that_was_never_there_leaves_an_answer_by_the_edge() -> None:
    async with running_agent(edge(), "127.0.0.1:9") as agent:
        events, answer = await complete(agent, early(threshold=0.6))
        _, alone = await complete(agent, ask("edge", extra={"exit": {"threshold": 0.6}}))
    assert (answer.degraded, answer.degraded_reason) == (True, "cloud_unavailable")
    assert {event.origin for event in events} == {Origin.EDGE}
    assert answer.token_ids == alone.token_ids


async def test_two_edges_at_once_each_get_what_they_get_alone() -> None:
    prompts = ["prompt number one", "another prompt", "x" * 90]
    large = whole()
    async with running_cloud(large) as cloud:
        async with running_agent(edge(), cloud.address) as one, running_agent(edge(), cloud.address) as other:
            requests = [early(prompt, threshold=0.6) for prompt in prompts]
            alone = [(await complete(one, request))[1].token_ids for request in requests]
            together = await asyncio.gather(*(complete(agent, r) for r in requests for agent in (one, other)))
        await until(lambda: idle(cloud))
    assert [answer.token_ids for _, answer in together] == [ids for ids in alone for _ in (one, other)]


async def test_a_stop_string_or_the_context_ends_an_answer_of_two_tiers() -> None:
    async with running_cloud(whole()) as cloud, running_agent(edge(), cloud.address) as agent:
        _, answer = await complete(agent, early(threshold=0.6))
        stop = answer.text[20:23]
        request = ask("exit", stop=[stop], extra={"exit": {"threshold": 0.6}})
        _, stopped = await complete(agent, request)
        assert (stopped.text, stopped.finish_reason) == (answer.text[: answer.text.index(stop)], "stop")
        _, full = await complete(agent, early("x" * 500, threshold=0.6, length=400))
        assert (full.finish_reason, full.statistics.tokens) == ("length", 12)


async def test_a_cloud_that_cannot_continue_is_refused_but_takes_tokens() -> None:
    for large in (whole(seed=5), HashEngine(), FakeStagedEngine(stages=5)):
        async with running_cloud(large) as cloud, running_agent(edge(), cloud.address) as agent:
            with pytest.raises(TrunkMismatch):
                await complete(agent, early(threshold=1.0))
            _, answer = await complete(agent, early(threshold=1.0, carry="tokens"))
            assert not answer.degraded
