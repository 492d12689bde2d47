"""Messages between front end and engine: what goes in comes out, and nothing else is read."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cloud.sessions.test_session import opening
from updraft.errors import ProtocolViolation, RequestTooLarge
from updraft_cloud import messages
from updraft_cloud.frames import (
    Branch,
    Cancel,
    Draft,
    End,
    HandBack,
    Hidden,
    Report,
    Score,
    Span,
    Spent,
    TakeOver,
    Verdict,
)
from updraft_cloud.messages import (
    Begin,
    Deliver,
    Emitted,
    Finish,
    decode_from_engine,
    decode_to_engine,
    encode,
)
from updraft_cloud.sessions.acceptance import Likelihood, Tolerance

TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=5)
BRANCHES = st.builds(Branch, st.just(1), TOKENS)
WORK = st.one_of(
    st.builds(
        Draft,
        st.integers(0, 999),
        TOKENS,
        st.integers(0, 2**32 - 1),
        TOKENS,
        st.lists(st.builds(Branch, st.just(1), TOKENS)),
    ),
    st.builds(Score, st.integers(0, 999), TOKENS, st.just(7), TOKENS, TOKENS, st.booleans(), st.integers(0, 20)),
    st.builds(
        TakeOver,
        st.integers(0, 999),
        TOKENS,
        st.just(7),
        st.integers(0, 99),
        st.none() | st.builds(HandBack, st.floats(0, 9), st.just(4), st.just(2), st.lists(st.floats(0, 9), max_size=4)),
        st.booleans(),
        st.integers(0, 9),
    ),
    st.builds(Cancel),
)


@given(WORK, st.floats(0, 1e9), st.none() | st.floats(0, 1e9))
def test_work_arrives_as_it_was_sent(work: Draft | Score | TakeOver | Cancel, arrived: float, by: float | None) -> None:
    message = Deliver(3, work, arrived, by)
    assert decode_to_engine(encode(message)) == message


@pytest.mark.parametrize("rule", [Tolerance(0.25), Likelihood(0.5, 0.75)])
def test_an_opening_arrives_as_it_was_sent(rule: Tolerance | Likelihood) -> None:
    message = Begin(1, "acme", opening(acceptance=rule, stop_tokens=frozenset({3, 4})))
    assert decode_to_engine(encode(message)) == message


def test_hidden_states_arrive_to_the_bit() -> None:
    states = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    arrived = decode_to_engine(encode(Deliver(1, Hidden(4, "float16", states), 0.0)))
    assert isinstance(arrived, Deliver) and isinstance(arrived.work, Hidden)
    assert arrived.work.states.tobytes() == states.tobytes()
    assert arrived.work.states.shape == (3, 8)


def test_answers_arrive_as_they_were_sent() -> None:
    report = Report(-0.5, 1.25, 9.0, [(3, -0.5), (4, -2.0)])
    spent = Spent(1, 2, 3, 4, 5)
    verdict = Verdict(9, 2, None, 77, End.STOP, [report], spent, tolerated=1, branch=2)
    message = Emitted([(1, verdict), (2, Span(9, [4], [report], End.NOT_YET, 78, spent))])
    assert decode_from_engine(encode(message)) == message


@given(st.binary(max_size=64))
def test_garbage_is_refused(data: bytes) -> None:
    for decode in (decode_to_engine, decode_from_engine):
        with pytest.raises(ProtocolViolation):
            decode(data)


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_read_as_another_message(place: int, value: int) -> None:
    data = bytearray(encode(Deliver(3, Draft(5, [1, 2], 9, [3, 4, 5], [Branch(1, [7])]), 1.5)))
    data[place % len(data)] = value
    try:
        assert isinstance(decode_to_engine(bytes(data)), Begin | Deliver | Finish)
    except ProtocolViolation:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"\x02\x00\x00\x00\x02\x00\x00\x00" + bytes(12),  # fewer values than its shape says
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00",
    ],
)
def test_a_matrix_of_another_size_than_its_shape_is_refused(data: bytes) -> None:
    body = {"type": "Hidden", "position": 0, "carry": "float16", "states": msgspec.msgpack.Ext(1, data)}
    message = msgspec.msgpack.encode({"type": "Deliver", "session": 1, "work": body, "arrived": 0.0})
    with pytest.raises(ProtocolViolation):
        decode_to_engine(message)


def test_other_extensions_are_refused() -> None:
    body = {"type": "Hidden", "position": 0, "carry": "float16", "states": msgspec.msgpack.Ext(2, bytes(12))}
    with pytest.raises(ProtocolViolation):
        decode_to_engine(msgspec.msgpack.encode({"type": "Deliver", "session": 1, "work": body, "arrived": 0.0}))


def test_messages_are_bounded_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    message = Deliver(1, Draft(0, list(range(100)), 0, []), 0.0)
    data = encode(message)
    monkeypatch.setattr(messages, "MAX_BYTES", len(data) - 1)
    with pytest.raises(RequestTooLarge):
        encode(message)
    with pytest.raises(ProtocolViolation, match="at most"):
        decode_to_engine(data)
