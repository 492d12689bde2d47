"""An OpenAI-compatible endpoint as the cloud: what it is asked, what becomes of its text, and its faults."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.byte_engine import byte_engine
from tests.fakes.endpoint import CUT, FakeEndpoint, Reply, error, grades, stream, whole
from tests.fakes.tiers import complete
from updraft.config import CloudLinkSettings, EdgeSettings, EndpointSettings, PriceSettings, RulesSettings
from updraft.errors import ConfigError, InvalidRequest, ModelNotFound, Unauthenticated
from updraft.generation import ChatMessage, GenerationRequest
from updraft.modes import Origin, parse_settings
from updraft.sampling import SamplingParams
from updraft_edge.agent import Agent
from updraft_edge.endpoint.calls import CONTINUE

TEXT = "The sky is blue: häßlich schön 🙂, said Ω.\n\nThat is all."


@contextlib.asynccontextmanager
async def agent_of(asked: FakeEndpoint | str, **changes: Any) -> AsyncIterator[Agent]:
    """An agent with no cloud but this endpoint."""
    url = asked if isinstance(asked, str) else asked.url
    fields = {"url": url, "model": "big", "retry_pause_s": 0.01, "reply_timeout_s": 5.0, **changes.pop("endpoint", {})}
    changes.setdefault("rules", RulesSettings(keep_local=()))
    settings = EdgeSettings(endpoint=EndpointSettings(**fields), **changes)
    async with Agent(settings, engine=byte_engine(noise=0.5)) as agent:
        yield agent


def ask(mode: str = "cloud", text: str = "Why is the sky blue?", **changes: Any) -> GenerationRequest:
    extra = changes.pop("extra", {})
    fields: dict[str, Any] = {
        "messages": [ChatMessage("user", text)],
        "sampling": SamplingParams(temperature=0.5, top_p=0.9, seed=3),
        "max_tokens": 200,
        "settings": parse_settings({"mode": mode, **extra}),
        **changes,
    }
    return GenerationRequest(**fields)


def breaker_closed(agent: Agent) -> bool:
    return agent.endpoint is not None and agent.endpoint.breaker.closed


def letters(text: str) -> list[str]:
    return [text[start : start + 3] for start in range(0, len(text), 3)]


async def test_its_text_is_the_answer_byte_for_byte_and_labelled_as_the_clouds() -> None:
    prices = PriceSettings(endpoint_input=2.0, endpoint_output=10.0)
    async with FakeEndpoint([stream(*letters(TEXT), usage=(1000, 500))]) as endpoint:
        async with agent_of(endpoint, prices=prices) as agent:
            events, completion = await complete(agent, ask())
    assert completion.text == "".join(event.text for event in events) == TEXT
    assert (completion.mode, completion.finish_reason, completion.degraded) == ("cloud", "stop", False)
    assert {event.origin for event in events} == {Origin.CLOUD}
    assert all(math.isnan(event.logprob) and event.verified and event.seconds > 0 for event in events)
    statistics = completion.statistics
    assert statistics.cloud_share == 1.0
    assert (statistics.endpoint_calls, statistics.round_trips) == (1, 1)
    assert (statistics.endpoint_prompt_tokens, statistics.endpoint_answer_tokens) == (1000, 500)
    assert statistics.cost == pytest.approx(1000 * 2e-6 + 500 * 10e-6)
    assert not statistics.endpoint_estimated
    assert statistics.bytes_up == len(endpoint.asked[0].raw)
    assert statistics.bytes_down > 0 and 0 < statistics.waited_seconds < statistics.seconds


async def test_what_it_is_asked() -> None:
    async with FakeEndpoint([stream("yes")]) as endpoint, agent_of(endpoint) as agent:
        await complete(agent, ask(stop=("A", "B", "C", "D", "E")))
        await complete(agent, ask(messages=None, prompt="Once upon", sampling=SamplingParams(seed=1, top_k=3)))
    chat, plain = endpoint.asked
    assert (chat.path, plain.path) == ("chat/completions", "completions")
    assert chat.body == {
        "model": "big",
        "max_tokens": 200,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["A", "B", "C", "D"],
    }
    assert (plain.body["prompt"], plain.body["temperature"], plain.body["top_k"]) == ("Once upon", 0.0, 3)
    assert chat.headers["accept-encoding"] == "identity"
    assert "authorization" not in chat.headers


@pytest.mark.parametrize(
    ("header", "value"), [("Authorization", "Bearer sesame-open"), ("api-key", "sesame-open")], ids=["bearer", "bare"]
)
async def test_the_key_comes_from_the_environment_and_is_never_shown(
    header: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sesame-open")
    options = {"api_key_env": "MY_KEY", "api_key_header": header, "headers": ("X-Title: edge",)}
    async with FakeEndpoint([stream("yes")]) as endpoint, agent_of(endpoint, endpoint=options) as agent:
        await complete(agent, ask())
        info, url = agent.info(), endpoint.url
    assert endpoint.asked[0].headers[header.lower()] == value
    assert endpoint.asked[0].headers["x-title"] == "edge"
    assert info["endpoint"] == {"url": url, "model": "big", "breaker": "closed", "key": True}
    assert info["modes"] == ["edge", "cloud", "route", "reason"]
    assert "sesame" not in str(info) + repr(agent.settings)


async def test_a_key_that_is_named_but_not_set_is_found_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_KEY"):
        Agent(
            EdgeSettings(endpoint=EndpointSettings(url="http://127.0.0.1:1/v1", model="m", api_key_env="NO_KEY")),
            engine=byte_engine(),
        )


@pytest.mark.parametrize("mode", ["draft", "span", "lookup", "cascade"])
async def test_modes_that_exchange_tokens_are_refused_with_the_names_of_those_that_work(mode: str) -> None:
    async with FakeEndpoint([stream("yes")]) as endpoint, agent_of(endpoint) as agent:
        with pytest.raises(InvalidRequest, match="cloud, edge, reason, route"):
            await complete(agent, ask(mode))
        _, alone = await complete(agent, ask("edge", max_tokens=5))
    assert alone.mode == "edge" and not endpoint.asked


async def test_a_cloud_service_beside_it_serves_the_other_modes() -> None:
    assert not EdgeSettings(endpoint=EndpointSettings(url="http://127.0.0.1:1/v1", model="m")).has_cloud
    both = EdgeSettings(
        endpoint=EndpointSettings(url="http://127.0.0.1:1/v1", model="m"),
        cloud=CloudLinkSettings(address="localhost:7080"),
    )
    assert both.has_cloud


async def test_local_only_leaves_the_endpoint_alone() -> None:
    async with FakeEndpoint([stream("yes")]) as endpoint:
        async with agent_of(endpoint) as agent:
            _, completion = await complete(agent, ask(extra={"local_only": True}, max_tokens=4))
        async with agent_of(endpoint, local_only=True) as agent:
            await complete(agent, ask(max_tokens=4))
            assert agent.info()["endpoint"] is None
    assert completion.mode == "edge" and endpoint.connections == 0


async def test_logit_bias_would_name_the_wrong_tokens() -> None:
    async with FakeEndpoint([stream("yes")]) as endpoint, agent_of(endpoint) as agent:
        with pytest.raises(InvalidRequest, match="logit_bias"):
            await complete(agent, ask(sampling=SamplingParams(logit_bias={5: 1.0})))


async def test_stop_strings_and_lengths_hold_whatever_it_sends() -> None:
    async with FakeEndpoint([stream("one two ", "STOP three", finish="stop")]) as endpoint, agent_of(endpoint) as agent:
        _, stopped = await complete(agent, ask(stop=("STOP",)))
        _, short = await complete(agent, ask(max_tokens=5))
    assert (stopped.text, stopped.finish_reason) == ("one two ", "stop")
    assert (short.text, short.finish_reason) == ("one t", "length")
    assert stopped.statistics.endpoint_estimated


async def test_its_own_limit_ends_the_answer_as_a_length() -> None:
    async with FakeEndpoint([stream("as far as", finish="length")]) as endpoint, agent_of(endpoint) as agent:
        _, completion = await complete(agent, ask())
    assert (completion.text, completion.finish_reason) == ("as far as", "length")


async def test_an_empty_answer_is_an_answer() -> None:
    async with FakeEndpoint([stream()]) as endpoint, agent_of(endpoint) as agent:
        _, completion = await complete(agent, ask())
    assert (completion.text, completion.finish_reason, completion.degraded) == ("", "stop", False)


async def test_an_endpoint_that_does_not_stream_is_taken_as_it_is() -> None:
    async with FakeEndpoint([whole(TEXT, usage=None)]) as endpoint, agent_of(endpoint) as agent:
        _, completion = await complete(agent, ask())
    assert completion.text == TEXT
    assert completion.statistics.endpoint_estimated
    assert completion.statistics.endpoint_answer_tokens == len(TEXT.encode())


async def test_fields_that_it_does_not_know_are_left_out_from_then_on() -> None:
    replies = [error(400, "unknown field stream_options"), stream("yes")]
    async with FakeEndpoint(replies) as endpoint, agent_of(endpoint) as agent:
        for _ in range(2):
            _, completion = await complete(agent, ask())
            assert completion.text == "yes"
    assert ["stream_options" in asked.body for asked in endpoint.asked] == [True, False, False]


@pytest.mark.parametrize(
    ("status", "kind"), [(401, Unauthenticated), (403, Unauthenticated), (404, ModelNotFound), (422, InvalidRequest)]
)
async def test_what_only_a_person_can_mend_fails_with_a_clear_error(status: int, kind: type[Exception]) -> None:
    async with FakeEndpoint([error(status, "because")]) as endpoint, agent_of(endpoint) as agent:
        with pytest.raises(kind, match="because"):
            await complete(agent, ask())
        assert breaker_closed(agent)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_passes_is_tried_again(status: int) -> None:
    replies = [error(status, retry_after="0.01"), stream("yes")]
    async with FakeEndpoint(replies) as endpoint, agent_of(endpoint) as agent:
        _, completion = await complete(agent, ask())
    assert (completion.text, completion.degraded) == ("yes", False)
    assert len(endpoint.asked) == 2


async def test_nobody_waits_for_a_long_retry_after() -> None:
    async with FakeEndpoint([error(429, retry_after="3600")]) as endpoint, agent_of(endpoint) as agent:
        _, completion = await complete(agent, ask(max_tokens=4))
    assert (completion.degraded_reason, completion.statistics.edge_tokens) == ("overloaded", 4)
    assert len(endpoint.asked) == 1


def events(*payloads: bytes) -> Reply:
    return Reply([b"data: " + payload + b"\n\n" for payload in payloads])


FAULTS = {
    "silence": (Reply([10.0]), "late_reply"),
    "comments only": (Reply([b": still here\n\n", 10.0]), "late_reply"),
    "error": (error(500), "cloud_unavailable"),
    "redirect": (Reply([], 302, headers={"location": "http://127.0.0.1:9/"}), "cloud_unavailable"),
    "no JSON": (events(b"{nonsense"), "cloud_unavailable"),
    "JSON of another shape": (events(b"[1]"), "cloud_unavailable"),
    "choices of another shape": (events(b'{"choices": {"a": 1}}'), "cloud_unavailable"),
    "text that is none": (events(b'{"choices": [{"delta": {"content": 7}}]}'), "cloud_unavailable"),
    "no UTF-8": (events(b"\xff\xfe"), "cloud_unavailable"),
    "deep JSON": (events(b"[" * 100_000), "cloud_unavailable"),
    "a line without end": (Reply([b"data: " + b"x" * 70_000] * 17), "cloud_unavailable"),
    "one huge piece": (stream("x" * 70_000), "cloud_unavailable"),
    "an error in the stream": (events(b'{"error": {"message": "out of memory"}}'), "cloud_unavailable"),
    "a web page": (Reply([b"<html>"], content_type="text/html"), "cloud_unavailable"),
    "nothing at all": (Reply([]), "cloud_unavailable"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_it_does_wrong_the_edge_answers(fault: str) -> None:
    reply, reason = FAULTS[fault]
    async with FakeEndpoint([reply]) as endpoint, agent_of(endpoint, endpoint={"reply_timeout_s": 0.2}) as agent:
        events, completion = await complete(agent, ask(max_tokens=12))
    assert (completion.degraded, completion.degraded_reason) == (True, reason)
    assert {event.origin for event in events} == {Origin.EDGE} and events


BREAKS = {
    "cut": Reply([*stream("half of ", "the ans", finish=None, done=False).parts, CUT]),
    "end without a reason": stream("half of ", "the ans", finish=None),
    "silence": Reply([*stream("half of ", "the ans", finish=None, done=False).parts, 10.0]),
    "garbage": Reply([*stream("half of ", "the ans", finish=None, done=False).parts, b"data: {\n\n"]),
    "error": Reply([*stream("half of ", "the ans", finish=None, done=False).parts, b'data: {"error": {}}\n\n', CUT]),
}


@pytest.mark.parametrize("kind", BREAKS)
async def test_a_stream_that_breaks_off_keeps_what_came_and_the_edge_goes_on(kind: str) -> None:
    async with FakeEndpoint([BREAKS[kind]]) as endpoint, agent_of(endpoint, endpoint={"reply_timeout_s": 0.3}) as agent:
        events, completion = await complete(agent, ask(max_tokens=30, ignore_end=True))
    origins = [event.origin for event in events]
    assert origins == [Origin.CLOUD] * 15 + [Origin.EDGE] * 15
    assert bytes(completion.token_ids[:15]) == b"half of the ans"
    assert completion.degraded and len(endpoint.asked) == 1
    assert completion.statistics.endpoint_answer_tokens == 15


async def test_characters_that_are_cut_in_two_by_the_network_arrive_whole() -> None:
    data = b"".join(part for part in stream(TEXT).parts if isinstance(part, bytes)).replace(b"\\u", b"\\u")
    raw = b'data: {"choices": [{"delta": {"content": "h\xc3\xa4\xf0\x9f\x99\x82"}, "finish_reason": "stop"}]}\r\n\r\n'
    pieces = [bytes([byte]) for byte in raw]
    async with FakeEndpoint([Reply(pieces), Reply([data])]) as endpoint, agent_of(endpoint) as agent:
        assert (await complete(agent, ask()))[1].text == "hä🙂"
        assert (await complete(agent, ask()))[1].text == TEXT


async def test_after_some_failures_nobody_asks_until_a_probe_has_succeeded() -> None:
    options = {"attempts": 1, "breaker_failures": 2, "probe_interval_s": 0.05}
    replies = [error(500), error(500), stream("yes")]
    async with FakeEndpoint(replies) as endpoint, agent_of(endpoint, endpoint=options) as agent:
        for _ in range(2):
            await complete(agent, ask(max_tokens=4))
        assert not breaker_closed(agent)
        _, completion = await complete(agent, ask(max_tokens=4))
        assert completion.degraded and len(endpoint.asked) == 2
        async with asyncio.timeout(5):
            while not breaker_closed(agent):
                await asyncio.sleep(0.01)
        assert (await complete(agent, ask(max_tokens=4)))[1].text == "yes"


async def test_nobody_there() -> None:
    async with agent_of("http://127.0.0.1:9/v1") as agent:
        _, completion = await complete(agent, ask(max_tokens=4))
    assert completion.degraded_reason == "cloud_unavailable"


REASON = {"reason": {"threshold": 7.0, "step_tokens": 8}}


@pytest.mark.parametrize(("digit", "rewritten"), [("9", False), ("1", True)])
async def test_it_grades_steps_and_rewrites_the_bad_ones(digit: str, rewritten: bool) -> None:
    def script(asked: Any) -> Reply:
        if asked.body.get("stream"):
            return stream("A better step.\n\nand more")
        return grades({digit: -0.1, f" {digit}": -3.0, "x": -4.0})

    async with FakeEndpoint(script) as endpoint, agent_of(endpoint) as agent:
        events, completion = await complete(agent, ask("reason", max_tokens=40, ignore_end=True, extra=REASON))
    grading = next(asked.body for asked in endpoint.asked if not asked.body.get("stream"))
    assert (grading["max_tokens"], grading["top_logprobs"], grading["logprobs"]) == (1, 20, True)
    assert [message["role"] for message in grading["messages"]] == ["user", "assistant", "user"]
    assert ("A better step.\n\n" in completion.text) is rewritten and "and more" not in completion.text
    assert ({event.origin for event in events} == {Origin.EDGE}) is not rewritten
    assert completion.statistics.step_scores and not completion.statistics.grades_without_logprobs


async def test_a_digit_alone_is_a_grade_and_the_answer_says_so() -> None:
    def script(asked: Any) -> Reply:
        if "logprobs" in asked.body:
            return error(400, "logprobs are not supported")
        return whole("8")

    async with FakeEndpoint(script) as endpoint, agent_of(endpoint) as agent:
        _, completion = await complete(agent, ask("reason", max_tokens=24, ignore_end=True, extra=REASON))
    statistics = completion.statistics
    assert set(statistics.step_scores) == {8.0}
    assert statistics.grades_without_logprobs == len(statistics.step_scores) > 0


async def test_a_grade_that_is_no_digit_leaves_the_answer_to_the_edge() -> None:
    async with FakeEndpoint([whole("Well done!")]) as endpoint, agent_of(endpoint) as agent:
        _, completion = await complete(agent, ask("reason", max_tokens=24, ignore_end=True, extra=REASON))
    assert completion.degraded_reason == "cloud_unavailable" and completion.statistics.edge_tokens == 24


@pytest.mark.parametrize(
    ("continuation", "refuses", "last"),
    [
        ("auto", False, {"role": "assistant"}),
        ("auto", True, {"role": "user", "content": CONTINUE}),
        ("prefill", False, {"role": "assistant"}),
        ("ask", False, {"role": "user", "content": CONTINUE}),
    ],
)
async def test_it_goes_on_with_the_answer_so_far(continuation: str, refuses: bool, last: dict[str, str]) -> None:
    def script(asked: Any) -> Reply:
        if not asked.body.get("stream"):
            return grades({"0": -0.1})
        if refuses and "continue_final_message" in asked.body:
            return error(400, "unknown field")
        return stream(f"{len(endpoint.asked)} steps of it all.\n\nx")

    options = {"continuation": continuation}
    async with FakeEndpoint(script) as endpoint, agent_of(endpoint, endpoint=options) as agent:
        _, completion = await complete(agent, ask("reason", max_tokens=60, ignore_end=True, extra=REASON))
    *_, asked = (asked.body for asked in endpoint.asked if asked.body.get("stream"))
    assert last.items() <= asked["messages"][-1].items()
    assert ("continue_final_message" in asked) is (continuation == "auto" and not refuses)
    assert completion.text.count(" steps of it all.\n\n") >= 2
