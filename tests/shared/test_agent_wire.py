from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shared.test_sampling_wire import PARAMS
from updraft.agent_wire import (
    completion_from_json,
    completion_to_json,
    info_from_json,
    parse_request,
    request_from_proto,
    request_to_proto,
    token_from_proto,
    token_to_proto,
)
from updraft.errors import InvalidRequest, ProtocolViolation, UnknownName
from updraft.generation import ChatMessage, Completion, GenerationRequest, Statistics, TokenEvent
from updraft.mode_settings import ExitSettings, SpanSettings, StopSettings
from updraft.modes import Mode, ModeSettings, Origin
from updraft.sampling import MAX_TOP_LOGPROBS, SamplingParams
from updraft.traces.steps import STEP_KINDS, DraftedToken, Trace, TraceStep
from updraft.v1 import agent_pb2 as pb

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
TOKEN = st.integers(0, 2**32 - 1)
SINGLE = st.floats(width=32, allow_nan=False)

SETTINGS = st.builds(
    ModeSettings,
    mode=st.sampled_from(Mode),
    stop=st.builds(
        StopSettings,
        rule=st.sampled_from(["fixed", "risk", "entropy"]),
        length=st.integers(1, 48),
        entropy=st.floats(0.001, 20),
        risk=st.none() | st.floats(0.001, 0.999),
    ),
    span=st.builds(SpanSettings, escalate=st.floats(2, 20), hand_back=st.floats(0, 2), min_stay=st.integers(1, 4096)),
    exit=st.builds(
        ExitSettings,
        criterion=st.sampled_from(["probability", "entropy", "patience", "q"]),
        threshold=st.floats(0, 1),
        patience=st.integers(1, 64),
        carry=st.sampled_from(["hidden", "tokens"]),
        dtype=st.sampled_from([None, "float32", "float16", "int8"]),
        split=st.none() | st.integers(0, 4095),
    ),
    local_only=st.booleans(),
)

INPUTS = st.one_of(
    st.fixed_dictionaries({"messages": st.lists(st.builds(ChatMessage, TEXT, TEXT), max_size=4)}),
    st.fixed_dictionaries({"prompt": TEXT}),
    st.fixed_dictionaries({"prompt_tokens": st.lists(TOKEN, max_size=8)}),
)

REQUESTS = st.builds(
    lambda given, rest: GenerationRequest(**given, **rest),
    INPUTS,
    st.fixed_dictionaries(
        {
            "sampling": PARAMS,
            "max_tokens": st.none() | st.integers(1, 2**31 - 1),
            "stop": st.lists(TEXT.filter(bool), max_size=3).map(tuple),
            "settings": st.none() | SETTINGS,
            "logprobs": st.booleans(),
            "top_logprobs": st.integers(0, MAX_TOP_LOGPROBS),
            "ignore_end": st.booleans(),
            "trace": st.booleans(),
        }
    ),
)

EVENTS = st.builds(
    TokenEvent,
    index=TOKEN,
    token=TOKEN,
    text=TEXT,
    logprob=SINGLE,
    entropy=SINGLE,
    energy=SINGLE,
    origin=st.sampled_from(Origin),
    verified=st.booleans(),
    seconds=st.floats(0, 1e6),
    top=st.lists(st.tuples(TOKEN, SINGLE), max_size=4).map(tuple),
    piece=st.binary(max_size=8),
    layer=st.none() | st.integers(0, 4096),
)

COUNT = st.integers(0, 2**53)
BY_TYPE = {
    "int": COUNT,
    "float": st.floats(0, 1e9),
    "float | None": st.none() | st.floats(-1e9, 1e9),
    "bool": st.booleans(),
    "list[float]": st.lists(st.floats(0, 9), max_size=4),
    "dict[int, int]": st.dictionaries(st.integers(0, 4096), COUNT),
}
STATISTICS = st.builds(
    Statistics,
    **{entry.name: BY_TYPE[str(entry.type)] for entry in fields(Statistics)},
)
FIGURE = st.none() | st.floats(-1e9, 1e9)
DRAFTED = st.builds(DraftedToken, COUNT, TEXT, FIGURE, FIGURE, FIGURE)
STEPS = st.builds(
    TraceStep,
    position=COUNT,
    kind=st.sampled_from(list(STEP_KINDS)),
    drafted=st.lists(DRAFTED, max_size=3),
    stood=COUNT,
    committed=COUNT,
    asked_s=st.floats(0, 1e9),
    took_s=st.floats(0, 1e9),
)
TRACES = st.builds(Trace, st.none() | TEXT, st.none() | TEXT, st.just({"mode": "edge"}), st.lists(STEPS, max_size=3))
COMPLETIONS = st.builds(
    Completion,
    text=TEXT,
    token_ids=st.lists(TOKEN, max_size=8),
    finish_reason=st.sampled_from(["stop", "length", "cancelled"]),
    mode=TEXT,
    model=TEXT,
    seed=st.integers(0, 2**64 - 1),
    degraded=st.booleans(),
    degraded_reason=st.none() | TEXT,
    statistics=STATISTICS,
    withheld=st.none() | TEXT,
    chosen=st.none() | TEXT,
    trace=st.none() | TRACES,
)


@given(REQUESTS)
def test_requests_survive_the_wire(request: GenerationRequest) -> None:
    raw = request_to_proto(request).SerializeToString()
    assert request_from_proto(parse_request(raw)) == request


@given(EVENTS)
def test_token_events_survive_the_wire(event: TokenEvent) -> None:
    raw = token_to_proto(event).SerializeToString()
    assert token_from_proto(pb.TokenCommitted.FromString(raw)) == event


@given(COMPLETIONS)
def test_completions_survive_with_all_statistics(completion: Completion) -> None:
    assert completion_from_json(completion_to_json(completion)) == completion


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_a_request_or_a_clear_error(raw: bytes) -> None:
    try:
        request = request_from_proto(parse_request(raw))
    except InvalidRequest as error:
        assert error.message
    else:
        assert isinstance(request, GenerationRequest)


def test_an_empty_message_names_what_is_missing() -> None:
    with pytest.raises(InvalidRequest, match="prompt"):
        request_from_proto(pb.GenerateRequest())


def test_empty_inputs_are_told_apart() -> None:
    assert request_from_proto(pb.GenerateRequest(text="")).prompt == ""
    assert request_from_proto(pb.GenerateRequest(chat=pb.Chat())).messages == []
    assert request_from_proto(pb.GenerateRequest(tokens=pb.Tokens())).prompt_tokens == []


def test_invalid_utf8_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="UTF-8"):
        parse_request(b"\x12\x02\xff\xfe")


@pytest.mark.parametrize(
    "message",
    [
        pb.GenerateRequest(text="a", max_tokens=2**31),
        pb.GenerateRequest(text="a", top_logprobs=MAX_TOP_LOGPROBS + 1),
        pb.GenerateRequest(text="a", stop=[""]),
        pb.GenerateRequest(text="a", stop=["x"] * 17),
        pb.GenerateRequest(text="a", stop=["x" * 1025]),
        pb.GenerateRequest(text="a", settings_json="{"),
        pb.GenerateRequest(text="a", settings_json="[" * 200_000),
        pb.GenerateRequest(text="a", settings_json="7" * 10_000),
        pb.GenerateRequest(text="a", settings_json="[]"),
        pb.GenerateRequest(text="a", settings_json='{"colour": 1}'),
        pb.GenerateRequest(text="a", settings_json='{"mode": ["draft"]}'),
        pb.GenerateRequest(text="a", settings_json='{"span": {"escalate": NaN}}'),
        pb.GenerateRequest(text="a", settings_json='{"stop": {"length": 49}}'),
    ],
)
def test_hostile_requests_are_refused(message: pb.GenerateRequest) -> None:
    with pytest.raises(InvalidRequest):
        request_from_proto(message)


def test_an_unknown_mode_is_an_unknown_name() -> None:
    with pytest.raises(UnknownName, match="modes are"):
        request_from_proto(pb.GenerateRequest(text="a", settings_json='{"mode": "turbo"}'))


def test_partial_settings_lie_over_the_agents_defaults() -> None:
    defaults = ModeSettings(mode=Mode.SPAN, span=SpanSettings(window=9))
    message = request_to_proto(GenerationRequest(prompt="a"), settings={"span": {"min_stay": 3}})
    assert request_from_proto(message, defaults).settings == ModeSettings(
        mode=Mode.SPAN, span=SpanSettings(window=9, min_stay=3)
    )


def test_local_only_alone_keeps_the_agents_mode() -> None:
    message = pb.GenerateRequest(text="a", local_only=True)
    assert request_from_proto(message, ModeSettings(mode=Mode.SPAN)).settings == ModeSettings(
        mode=Mode.SPAN, local_only=True
    )


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest(prompt="\ud800"),
        GenerationRequest(prompt_tokens=[-1]),
        GenerationRequest(prompt_tokens=[2**32]),
        GenerationRequest(prompt=7),  # type: ignore[arg-type]
        GenerationRequest(prompt="a", sampling=replace(SamplingParams(), top_k=0.5)),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_fit_the_message_is_the_callers_error(request_: GenerationRequest) -> None:
    with pytest.raises(InvalidRequest):
        request_to_proto(request_)


def test_settings_that_json_cannot_carry_are_the_callers_error() -> None:
    with pytest.raises(InvalidRequest):
        request_to_proto(GenerationRequest(prompt="a"), settings={"span": {"escalate": float("nan")}})


def test_a_token_of_unknown_origin_is_a_protocol_violation() -> None:
    with pytest.raises(ProtocolViolation, match="moon"):
        token_from_proto(pb.TokenCommitted(origin="moon"))


GOOD = json.loads(completion_to_json(Completion("a", [1], "stop", "draft", "m", 7)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps(GOOD | {"finish_reason": "bored"}),
        json.dumps(GOOD | {"seed": "7"}),
        json.dumps(GOOD | {"token_ids": None}),
        json.dumps(GOOD | {"statistics": {"tokens": 1.5}}),
    ],
)
def test_bad_completions_are_protocol_violations(text: str) -> None:
    with pytest.raises(ProtocolViolation):
        completion_from_json(text)


def test_keys_of_a_newer_agent_are_ignored() -> None:
    assert completion_from_json(json.dumps(GOOD | {"mood": "fine"})).text == "a"


def test_info_must_be_an_object() -> None:
    assert info_from_json('{"version": "1"}') == {"version": "1"}
    for text in ("", "[1]", "[" * 200_000):
        with pytest.raises(ProtocolViolation):
            info_from_json(text)
