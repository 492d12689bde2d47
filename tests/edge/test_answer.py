"""Text, stop strings and events of an answer."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.modes import Origin
from updraft.sampling import Distribution, Sampled
from updraft.token_log import TokenLog
from updraft_edge.answer import Answer, StopText

LETTERS = st.text("abc", max_size=30)
STOPS = st.lists(st.text("abc", min_size=1, max_size=4), max_size=3)


@given(LETTERS, STOPS, st.data())
def test_text_ends_before_the_first_stop_string_however_it_arrives(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    gate, released, fed = StopText(stops), "", 0
    while fed < len(text) and not gate.stopped:
        size = data.draw(st.integers(1, 5))
        released += gate.feed(text[fed : fed + size])
        fed += size
        assert text.startswith(released)
    if not gate.stopped:
        released += gate.flush()
    # A later stop string may end sooner than an earlier one that is still incomplete: only arrival order decides then.
    if gate.stopped:
        assert min(found) <= len(released) <= max(len(text) - 1, 0)
        assert any(text.startswith(stop, len(released)) for stop in stops)
    else:
        assert not found
        assert released == text


def test_what_may_become_a_stop_string_is_held_back() -> None:
    gate = StopText(["END"])
    assert gate.feed("the E") == "the "
    assert gate.feed("N") == ""
    assert gate.feed("T") == "ENT"
    assert gate.feed("EN") == ""
    assert gate.flush() == "EN"


class Bytes:
    """A tokenizer of single bytes."""

    def encode(self, text: str, *, special: bool = False, start: bool = False) -> list[int]:
        return list(text.encode())

    def piece(self, token: int) -> bytes:
        return bytes([token])

    def written(self, token: int) -> str:
        return self.piece(token).decode("utf-8", "replace")


def sampled(token: int) -> Sampled:
    return Sampled(token, -0.5, Distribution(3.0, 0.7, 0.6))


def start(*, stop: tuple[str, ...] = (), most: int = 100, ends: frozenset[int] = frozenset({0})) -> Answer:
    return Answer(TokenLog([1]), Bytes(), ends=ends, stop=stop, most=most, started=time.perf_counter())


@given(st.text(max_size=20), st.integers(1, 6))
def test_events_carry_whole_characters_and_add_up_to_the_text(text: str, size: int) -> None:
    tokens = list(text.encode())
    answer, events = start(most=len(tokens) + 1, ends=frozenset({256})), []
    for place in range(0, len(tokens), size):
        events += answer.commit(map(sampled, tokens[place : place + size]), Origin.EDGE, verified=False)
    assert "".join(event.text for event in events) == text
    assert b"".join(event.piece for event in events) == text.encode()
    completion = answer.completion(mode="edge", model="m", seed=1)
    assert (completion.text, completion.token_ids) == (text, tokens)


def test_an_incomplete_character_at_the_end_is_replaced_and_not_lost() -> None:
    answer = start(most=2)
    events = answer.commit(map(sampled, [ord("a"), 0xC3]), Origin.EDGE, verified=False)
    assert [event.text for event in events] == ["a", "�"]
    assert answer.finished == "length"


def test_an_end_token_ends_the_answer_without_text_and_drops_what_follows() -> None:
    answer = start()
    events = answer.commit(map(sampled, [65, 0, 66]), Origin.CLOUD, verified=True)
    assert [(event.token, event.text) for event in events] == [(65, "A"), (0, "")]
    assert answer.finished == "stop"
    assert answer.log.generated == [65, 0]


def test_a_stop_string_across_tokens_ends_the_answer_and_drops_what_follows() -> None:
    answer = start(stop=("bc",))
    events = answer.commit(map(sampled, b"abcd"), Origin.EDGE, verified=True)
    assert "".join(event.text for event in events) == "a"
    assert answer.finished == "stop"
    assert answer.log.generated == list(b"abc")


def test_held_back_text_is_released_with_the_last_token() -> None:
    answer = start(stop=("bcd",), most=3)
    events = answer.commit(map(sampled, b"abc"), Origin.EDGE, verified=False)
    assert [event.text for event in events] == ["a", "", "bc"]
    assert answer.finished == "length"


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_the_clouds_reason_to_end_counts_for_the_last_token_alone(finish: str) -> None:
    answer = start()
    events = answer.commit(map(sampled, b"ab"), Origin.CLOUD, verified=True, finish=finish)  # type: ignore[arg-type]
    assert len(events) == 2
    assert answer.finished == finish


def test_statistics_count_by_origin() -> None:
    answer = start()
    answer.commit(map(sampled, b"abc"), Origin.EDGE, verified=True)
    answer.commit(map(sampled, b"d"), Origin.CLOUD, verified=True)
    statistics = answer.statistics
    assert (statistics.tokens, statistics.edge_tokens, statistics.cloud_tokens) == (4, 3, 1)
    assert statistics.cloud_share == 0.25
