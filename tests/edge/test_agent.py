"""The agent's modes against a real cloud service on loopback, with engines whose logits expose every cache mistake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, idle, running_agent, running_cloud, until
from updraft.errors import InvalidRequest, PromptTooLong, TokenizerMismatch
from updraft.generation import ChatMessage, Completion, GenerationRequest
from updraft.modes import Origin, parse_settings
from updraft.sampling import SamplingParams

LENGTH = 48


def ask(mode: str, prompt: str = "hello there", *, temperature: float = 0.8, **changes: Any) -> GenerationRequest:
    extra = changes.pop("extra", {})
    fields: dict[str, Any] = {
        "prompt": prompt,
        "sampling": SamplingParams(temperature=temperature, seed=5, frequency_penalty=0.2),
        "max_tokens": LENGTH,
        "settings": parse_settings({"mode": mode, **extra}),
        "ignore_end": True,
        **changes,
    }
    return GenerationRequest(**fields)


def edge_engine(**changes: Any) -> HashEngine:
    return HashEngine(**{"noise": 0.8, "own_seed": 7, **changes})


STOP_RULES: list[dict[str, Any]] = [
    {"rule": "fixed", "length": 1},
    {"rule": "fixed", "length": 7},
    {"rule": "risk"},
    {"rule": "risk", "risk": 0.9, "shortest": 1},
    {"rule": "entropy", "entropy": 1.5},
]


@pytest.mark.parametrize("stop", STOP_RULES)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
async def test_draft_writes_the_clouds_own_text(stop: dict[str, Any], temperature: float) -> None:
    engine, large = edge_engine(), HashEngine()
    async with running_cloud(large) as cloud, running_agent(engine, cloud.address) as agent:
        for prompt in ("hello", "the quick brown fox", "x" * 100):
            _, alone = await complete(agent, ask("cloud", prompt, temperature=temperature))
            request = ask("draft", prompt, temperature=temperature, extra={"stop": stop})
            events, drafted = await complete(agent, request)
            assert drafted.text == alone.text
            assert drafted.token_ids == alone.token_ids == [event.token for event in events]
            statistics = drafted.statistics
            assert 0 < statistics.edge_tokens == statistics.accepted
            assert statistics.cloud_passes < alone.statistics.cloud_passes == LENGTH
            assert all(event.verified for event in events)
        await until(lambda: engine.open_sequences == 0 and idle(cloud))


@given(st.integers(0, 10**6), st.floats(0.0, 3.0), st.integers(1, 12), st.integers(1, 80))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_draft_is_lossless_for_any_pair(seed: int, noise: float, length: int, prompt: int) -> None:
    async def check() -> None:
        small = HashEngine(seed=seed, noise=noise, own_seed=seed + 1)
        async with running_cloud(HashEngine(seed=seed)) as cloud, running_agent(small, cloud.address) as agent:
            text = "abcdefgh" * 10
            stop = {"stop": {"rule": "fixed", "length": length}}
            _, alone = await complete(agent, ask("cloud", text[:prompt]))
            _, drafted = await complete(agent, ask("draft", text[:prompt], extra=stop))
            assert drafted.token_ids == alone.token_ids

    asyncio.run(check())


async def test_edge_mode_writes_alone_and_says_so() -> None:
    async with running_agent(edge_engine(), None) as agent:
        events, completion = await complete(agent, ask("edge"))
    assert {event.origin for event in events} == {Origin.EDGE}
    assert not any(event.verified for event in events)
    assert completion.text == "".join(event.text for event in events)
    assert (completion.degraded, completion.statistics.cloud_share) == (False, 0.0)
    assert [event.index for event in events] == list(range(LENGTH))
    assert all(event.entropy > 0 and event.logprob < 0 for event in events)


async def test_cloud_mode_leaves_the_edge_engine_alone() -> None:
    engine = edge_engine()
    async with running_cloud(HashEngine()) as cloud, running_agent(engine, cloud.address) as agent:
        events, completion = await complete(agent, ask("cloud"))
    assert {event.origin for event in events} == {Origin.CLOUD}
    assert engine.forwards == 0
    assert completion.statistics.cloud_share == 1.0


async def test_span_mode_hands_over_where_entropy_is_high_and_takes_back() -> None:
    span = {"window": 3, "escalate": 1.6, "hand_back": 1.5, "min_stay": 3}
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        events, completion = await complete(agent, ask("span", extra={"span": span}, max_tokens=150))
    origins = [event.origin for event in events]
    switches = [index for index in range(1, len(origins)) if origins[index] is not origins[index - 1]]
    assert len(switches) >= 2
    assert min(after - before for before, after in zip([0, *switches], switches, strict=False)) >= 3
    before_first = [event.entropy for event in events[: switches[0]]]
    assert sum(before_first[-3:]) / 3 >= 1.6
    assert 0 < completion.statistics.cloud_share < 1


async def test_a_span_answer_is_the_same_whenever_it_is_asked_for() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        first = await complete(agent, ask("span"))
        second = await complete(agent, ask("span"))
    assert first[1].token_ids == second[1].token_ids


async def test_many_requests_at_once_each_get_what_they_get_alone() -> None:
    small, large = edge_engine(sequences=3), HashEngine(sequences=4)
    async with running_cloud(large) as cloud, running_agent(small, cloud.address) as agent:
        modes = ["edge", "cloud", "draft", "span"] * 3
        requests = [ask(mode, f"prompt number {number}") for number, mode in enumerate(modes)]
        alone = [(await complete(agent, request))[1].text for request in requests]
        together = await asyncio.gather(*(complete(agent, request) for request in requests))
    assert [completion.text for _, completion in together] == alone


async def test_log_probabilities_in_draft_mode_are_the_clouds() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        by_cloud, _ = await complete(agent, ask("cloud", logprobs=True, top_logprobs=3))
        drafted, _ = await complete(agent, ask("draft", logprobs=True, top_logprobs=3))
    assert [(e.logprob, e.entropy, e.top) for e in drafted] == [(e.logprob, e.entropy, e.top) for e in by_cloud]
    assert all(len(event.top) == 3 for event in drafted)


async def test_the_answer_ends_at_an_end_token_on_either_tier() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        for mode in ("edge", "cloud", "draft", "span"):
            for prompt in ("a", "b", "c", "d", "e"):
                request = ask(mode, prompt, ignore_end=False, max_tokens=400)
                events, completion = await complete(agent, request)
                end = 63
                assert completion.finish_reason == ("stop" if events[-1].token == end else "length")
                assert end not in [event.token for event in events[:-1]]


@pytest.mark.parametrize("mode", ["edge", "cloud", "draft"])
async def test_a_stop_string_ends_the_answer_before_it(mode: str) -> None:
    large = HashEngine()
    async with running_cloud(large) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        _, whole = await complete(agent, ask(mode))
        stop = whole.text[10:13]
        events, completion = await complete(agent, ask(mode, stop=[stop]))
        assert completion.text == whole.text[: whole.text.index(stop)]
        assert completion.text == "".join(event.text for event in events)
        assert completion.finish_reason == "stop"
        await until(lambda: idle(cloud))


async def test_chat_messages_go_through_the_template() -> None:
    async with running_agent(edge_engine(), None) as agent:
        messages = [ChatMessage("user", "hello")]
        request = GenerationRequest(messages=messages, max_tokens=4, ignore_end=True)
        _, completion = await complete(agent, request)
        assert completion.statistics.prompt_tokens > len("hello")


async def test_a_reader_that_leaves_frees_both_tiers() -> None:
    small, large = edge_engine(), HashEngine()
    async with running_cloud(large) as cloud, running_agent(small, cloud.address) as agent:
        for mode in ("edge", "cloud", "draft", "span"):
            answer = agent.generate(ask(mode, max_tokens=400))
            await anext(answer)
            await answer.aclose()
        await until(lambda: small.open_sequences == 0 and idle(cloud))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"prompt": ""}, InvalidRequest),
        ({"prompt": "x" * 512}, PromptTooLong),
        ({"prompt": None, "prompt_tokens": [64]}, InvalidRequest),
        ({"prompt": None, "prompt_tokens": [-1]}, InvalidRequest),
        ({"prompt": None, "prompt_tokens": []}, InvalidRequest),
        ({"sampling": SamplingParams(logit_bias={64: 1.0})}, InvalidRequest),
    ],
)
async def test_requests_that_cannot_be_answered_are_refused(change: dict[str, Any], error: type[Exception]) -> None:
    async with running_agent(edge_engine(), None) as agent:
        with pytest.raises(error):
            await complete(agent, ask("edge", **change))
        assert isinstance((await complete(agent, ask("edge")))[1], Completion)


async def test_an_answer_never_outgrows_the_context() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        for mode in ("edge", "cloud", "draft"):
            _, completion = await complete(agent, ask(mode, "x" * 500, max_tokens=400))
            assert (completion.finish_reason, completion.statistics.tokens) == ("length", 12)


async def test_tiers_with_different_tokenizers_refuse_to_work_together() -> None:
    large = HashEngine(tokenizer_hash="words")
    async with running_cloud(large) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        for mode in ("cloud", "draft"):
            with pytest.raises(TokenizerMismatch, match="tokenizer") as caught:
                await complete(agent, ask(mode))
            assert "one family" in caught.value.remedy
        _, alone = await complete(agent, ask("edge"))
        assert not alone.degraded


async def test_statistics_add_up() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        for mode in ("cloud", "draft", "span"):
            events, completion = await complete(agent, ask(mode))
            statistics = completion.statistics
            assert statistics.tokens == len(events) == statistics.edge_tokens + statistics.cloud_tokens
            assert statistics.cloud_tokens <= statistics.cloud_positions
            assert statistics.bytes_up > 0
            assert statistics.bytes_down > 0
            assert statistics.accepted <= statistics.drafted
            assert 0 < statistics.first_token_seconds <= statistics.seconds


async def test_info_describes_both_tiers() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        await until(lambda: agent.link is not None and agent.link.cloud is not None)
        info = agent.info()
        assert info["default_mode"] == "draft"
        assert isinstance(info["cloud"], dict)
        assert info["cloud"]["model"] == "hash"
        assert agent.ready
    assert not agent.ready
