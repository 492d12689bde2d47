"""Which request fields are taken, ignored and refused, and what the agent gets of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.edge.http.clients import CHAT, COMPLETIONS, app_of, chat_body, client_of, post
from tests.fakes.generator import FakeAgent
from updraft.generation import ChatMessage, GenerationRequest
from updraft.modes import Mode, ModeSettings
from updraft.sampling import SamplingParams
from updraft_edge.http.fields import IGNORED


async def asked(**fields: Any) -> GenerationRequest:
    """What the agent is asked for by a chat request with these fields."""
    agent = FakeAgent()
    response = await post(agent, CHAT, chat_body(**fields))
    assert response.status_code == 200, response.text
    return agent.requests[0]


async def refused(**fields: Any) -> dict[str, Any]:
    agent = FakeAgent()
    response = await post(agent, CHAT, chat_body(**fields))
    assert response.status_code == 400, response.text
    assert agent.requests == []
    error: dict[str, Any] = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


async def test_the_least_request_samples_at_temperature_1_as_openai_does() -> None:
    assert await asked() == GenerationRequest(
        messages=(ChatMessage("user", "hi"),), sampling=SamplingParams(temperature=1.0)
    )


async def test_every_sampling_field_reaches_the_agent() -> None:
    request = await asked(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        repetition_penalty=1.1,
        frequency_penalty=0.2,
        presence_penalty=-0.3,
        logit_bias={"5": -100, "7": 1.5},
        seed=42,
        max_tokens=9,
        stop=["a", "b"],
        logprobs=True,
        top_logprobs=4,
        ignore_eos=True,
    )
    assert request == GenerationRequest(
        messages=(ChatMessage("user", "hi"),),
        sampling=SamplingParams(0.5, 40, 0.9, 0.05, 1.1, 0.2, -0.3, {5: -100.0, 7: 1.5}, 42),
        max_tokens=9,
        stop=("a", "b"),
        logprobs=True,
        top_logprobs=4,
        ignore_end=True,
    )


OPTIONAL = [
    "n", "stream", "stream_options", "stop", "seed", "max_tokens", "max_completion_tokens", "temperature", "top_p",
    "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs",
    "top_logprobs", "updraft", "tools", "tool_choice", "response_format",
]  # fmt: skip


async def test_null_means_left_out() -> None:
    assert await asked(**dict.fromkeys(OPTIONAL)) == await asked()


async def test_ignored_fields_change_nothing() -> None:
    assert await asked(**dict.fromkeys(IGNORED, "anything")) == await asked()


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "modalities": ["text"]},
        {"tool_choice": "auto", "functions": [], "function_call": "auto", "audio": None},
        {"top_k": -1},
    ],
)
async def test_values_that_ask_for_nothing_are_taken(fields: dict[str, Any]) -> None:
    assert await asked(**fields) == await asked()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "required"),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": {}}),
        ("modalities", ["text", "audio"]),
        ("reasoning_effort", "huge"),
        ("reasoning_effort", 3),
        ("updraft", {"effort": "low", "budget": {"samples": 0}}),
        ("updraft", {"progress": 1}),
        ("updraft", {"alternatives": "yes"}),
        ("no_such_field", 1),
        ("prompt", "x"),
        ("echo", True),
        ("temperature", True),
        ("temperature", "1"),
        ("temperature", -0.1),
        ("temperature", 10**400),
        ("top_p", 0),
        ("top_p", 1.5),
        ("top_k", -2),
        ("top_k", 1.0),
        ("min_p", 2),
        ("repetition_penalty", 0),
        ("seed", -1),
        ("seed", 2**64),
        ("seed", True),
        ("n", 0),
        ("n", 9),
        ("n", True),
        ("max_tokens", 0),
        ("max_tokens", -5),
        ("max_tokens", 2**31),
        ("max_tokens", 1.5),
        ("stream", 1),
        ("stream", "true"),
        ("logprobs", 1),
        ("top_logprobs", 21),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"1": 101}),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", {"1": True}),
        ("logit_bias", {str(token): 1 for token in range(1025)}),
        ("stop", [""]),
        ("stop", ["x"] * 17),
        ("stop", "x" * 1025),
        ("stop", 5),
        ("stop", [5]),
        ("messages", []),
        ("messages", "hi"),
        ("messages", None),
        ("model", 5),
        ("updraft", "edge"),
        ("updraft", {"modus": "edge"}),
        ("updraft", {"span": {"window": 0}}),
    ],
)
async def test_bad_fields_are_refused_by_name(name: str, value: object) -> None:
    error = await refused(**{name: value})
    assert error["param"].split(".")[0] == name
    assert error["message"].endswith(".")


@pytest.mark.parametrize(
    "fields",
    [
        {"stream_options": {"include_usage": True}},
        {"top_logprobs": 2},
        {"max_tokens": 3, "max_completion_tokens": 4},
    ],
)
async def test_fields_that_do_not_go_together_are_refused(fields: dict[str, Any]) -> None:
    assert " " in (await refused(**fields))["message"]


@pytest.mark.parametrize("name", ["model", "messages"])
async def test_missing_fields_are_named(name: str) -> None:
    body = chat_body()
    del body[name]
    response = await post(FakeAgent(), CHAT, body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == name


async def test_another_model_is_not_found_in_openais_shape() -> None:
    response = await post(FakeAgent(), CHAT, chat_body(model="gpt-4o"))
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("model_not_found", "invalid_request_error", "model")
    assert "'gpt-4o'" in error["message"] and "'fake-pair'" in error["message"]


async def test_the_extension_chooses_mode_and_settings() -> None:
    request = await asked(updraft={"mode": "edge", "local_only": True})
    assert request.settings == ModeSettings(mode=Mode.EDGE, local_only=True)


async def test_the_extension_is_laid_over_the_servers_defaults() -> None:
    agent = FakeAgent()
    defaults = ModeSettings(mode=Mode.SPAN)
    await post(agent, CHAT, chat_body(updraft={"span": {"window": 3}}), defaults=defaults)
    assert agent.requests[0].settings is not None
    assert agent.requests[0].settings.mode is Mode.SPAN
    assert agent.requests[0].settings.span.window == 3


async def test_an_unknown_mode_is_not_found() -> None:
    response = await post(FakeAgent(), CHAT, chat_body(updraft={"mode": "fast"}))
    assert response.status_code == 404
    assert "edge, cloud, draft, lookup" in response.json()["error"]["message"]


async def test_messages_of_every_role_and_kind_are_taken() -> None:
    request = await asked(
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "system", "content": "be kind", "name": "s"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "", "refusal": None, "tool_calls": None, "annotations": []},
            {"role": "tool", "content": "5", "tool_call_id": "x"},
        ]
    )
    assert request.messages == (
        ChatMessage("system", "be brief"),
        ChatMessage("system", "be kind"),
        ChatMessage("user", "a\nb"),
        ChatMessage("assistant", ""),
        ChatMessage("tool", "5"),
    )


@pytest.mark.parametrize(
    "message",
    [
        {"role": "judge", "content": "x"},
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": 5},
        {"role": "user", "content": ["x"]},
        {"role": "user", "content": [{"type": "text"}]},
        {"role": "user", "content": [{"type": "text", "text": 5}]},
        {"role": "user", "content": [{"type": "text", "text": "x", "more": 1}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]},
        {"role": "assistant", "content": "x", "tool_calls": [{}]},
        {"role": "user", "content": "x", "mood": "good"},
        "hi",
    ],
)
async def test_bad_messages_are_refused_by_place(message: object) -> None:
    error = await refused(messages=[{"role": "user", "content": "fine"}, message])
    assert error["param"].startswith("messages.1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*OPTIONAL, "messages", "prompt", "echo", "suffix", "best_of", "user"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=st.sampled_from([CHAT, COMPLETIONS]), fields=st.dictionaries(NAMES, JSON, max_size=4))
async def test_no_json_object_makes_the_server_fail(path: str, fields: dict[str, Any]) -> None:
    base = {"model": "fake-pair", **({"prompt": "x"} if path == COMPLETIONS else {"messages": chat_body()["messages"]})}
    async with client_of(app_of(FakeAgent())) as client:
        response = await client.post(path, json=base | fields)
    assert response.status_code in {200, 400, 404}, response.text
    if response.status_code != 200:
        assert response.json()["error"].keys() == {"message", "type", "param", "code"}
