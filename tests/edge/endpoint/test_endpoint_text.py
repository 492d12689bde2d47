"""Text to tokens byte for byte, events from bytes, and grades from answers of any shape."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.byte_engine import ByteTokenizer
from tests.fakes.engine import LetterTokenizer
from updraft.engine import Engine, open_engine
from updraft.errors import CloudUnavailable, Overloaded
from updraft_edge.endpoint.calls import read_grades
from updraft_edge.endpoint.stream import MOST_EVENT_BYTES, Usage, event_data, parse_json, read_piece
from updraft_edge.endpoint.text import TextEncoder, Unrepeated

TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def engine(tiny_model_path: Path) -> Any:
    opened = open_engine(tiny_model_path, context=128, sequences=1, threads=1)
    yield opened
    opened.shutdown()


@given(st.lists(TEXT, max_size=8))
@settings(max_examples=80, deadline=None)
def test_the_tokens_of_any_text_have_its_bytes(engine: Engine, parts: list[str]) -> None:
    for tokenizer in (engine.tokenizer, ByteTokenizer()):
        encoder = TextEncoder(tokenizer)
        tokens = [token for part in parts for token in encoder.feed(part)] + encoder.flush()
        assert b"".join(map(tokenizer.piece, tokens)) == "".join(parts).encode()


def test_words_get_the_tokens_that_they_have_in_the_whole_text(engine: Engine) -> None:
    text = "The quick brown fox jumps over the lazy dog, said the story."
    encoder = TextEncoder(engine.tokenizer)
    tokens = [token for letter in text for token in encoder.feed(letter)] + encoder.flush()
    assert tokens == engine.tokenizer.encode(text)


def test_names_of_control_tokens_are_text(engine: Engine) -> None:
    text = "<|im_end|> <s> </s>"
    encoder = TextEncoder(engine.tokenizer)
    tokens = encoder.feed(text) + encoder.flush()
    assert b"".join(map(engine.tokenizer.piece, tokens)).decode() == text


def test_a_long_word_flows_too() -> None:
    encoder = TextEncoder(ByteTokenizer())
    assert len(encoder.feed("x" * 1000)) == 1000
    assert len(encoder.feed(" " * 1000)) == 1000


class SpacePutter(ByteTokenizer):
    """Puts a space before every text that begins with a letter, as some tokenizers do."""

    def encode(self, text: str, *, special: bool = False, start: bool = False) -> list[int]:
        return super().encode(text if text[:1].isspace() else " " + text)


@given(TEXT)
def test_a_space_that_a_tokenizer_puts_first_is_taken_away(text: str) -> None:
    encoder = TextEncoder(SpacePutter())
    assert bytes(encoder.feed(text) + encoder.flush()) == text.encode()


def test_what_a_tokenizer_cannot_write_is_an_error_with_the_character() -> None:
    encoder = TextEncoder(LetterTokenizer(64))
    with pytest.raises(CloudUnavailable, match=r"U\+00C4"):
        encoder.feed("ABÄCD E")


@pytest.mark.parametrize(
    ("so_far", "parts", "new"),
    [
        ("The answer so far is", ["The answer", " so far is", " 42."], " 42."),
        ("The answer so far is", ["\nThe answer so far is 42."], " 42."),
        ("The answer so far is", ["The ans", "wered"], "The answered"),
        ("The answer so far is", [" 42."], " 42."),
        ("The answer so far is", ["The answer"], "The answer"),
        ("short", ["short", "er"], "shorter"),
        ("", ["x"], "x"),
    ],
)
def test_a_repeated_beginning_is_left_out(so_far: str, parts: list[str], new: str) -> None:
    filtered = Unrepeated(so_far)
    assert "".join(filtered.feed(part) for part in parts) + filtered.flush() == new


def collect(chunks: list[bytes]) -> list[str]:
    async def source() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def run() -> list[str]:
        return [text async for text in event_data(source())]

    return asyncio.run(run())


@given(st.lists(TEXT.map(json.dumps), max_size=5), st.sampled_from(["\n", "\r\n"]), st.integers(1, 7))
@settings(max_examples=50)
def test_events_are_the_same_however_the_bytes_are_cut(payloads: list[str], end: str, size: int) -> None:
    lines = [f": comment{end}event: message{end}data: {payload}{end}{end}" for payload in payloads]
    data = "".join(lines).encode() + b"data: [DONE]\n\ndata: more\n\n"
    assert collect([data[start : start + size] for start in range(0, len(data), size)]) == payloads


def test_data_of_several_lines_is_one_event_and_an_end_without_a_blank_line_counts() -> None:
    assert collect([b"data: {\ndata:  1}\n\ndata: 2\n"]) == ["{\n 1}", "2"]


@pytest.mark.parametrize(
    "chunks", [[b"data: " + b"x" * MOST_EVENT_BYTES], [b"data: " + b"x" * 1000 + b"\n"] * 1100, [b"\xff\n"]]
)
def test_what_has_no_end_or_is_no_text_is_an_error(chunks: list[bytes]) -> None:
    with pytest.raises(CloudUnavailable):
        collect(chunks)


@given(JSON)
@settings(max_examples=100)
def test_json_of_any_shape_is_a_piece_or_an_error_of_ours(data: Any) -> None:
    for choice in (data, {"delta": data}, {"text": data}, {"message": {"content": data}}, {"finish_reason": data}):
        whole = {"choices": [choice], "usage": data}
        try:
            piece = read_piece(parse_json(json.dumps(whole)))
        except (CloudUnavailable, Overloaded):
            continue
        assert isinstance(piece.text, str) and isinstance(piece.finish, str | None)
    read_grades({"choices": data})
    read_grades({"choices": [{"logprobs": {"content": [{"top_logprobs": [data]}]}, "message": data}]})


def test_usage_counts_only_where_it_can_be_true() -> None:
    for good, usage in (({"prompt_tokens": 3, "completion_tokens": 4}, Usage(3, 4)), ({"prompt_tokens": -1}, None)):
        assert read_piece({"choices": [], "usage": good}).usage == usage
    assert read_piece({"usage": {"prompt_tokens": True, "completion_tokens": 1}}).usage is None


def test_grades_add_up_the_ways_of_writing_a_digit() -> None:
    half = math.log(0.5)
    top = [{"token": " 7", "logprob": half}, {"token": "7", "logprob": half - 5}, {"token": "10", "logprob": -1}]
    top += [{"token": "8", "logprob": math.nan}, {"token": "9", "logprob": math.inf}, {"token": 3, "logprob": -1}]
    data = {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}
    found, exact = read_grades(data)
    assert exact and set(found) == {7}
    assert math.exp(found[7]) == pytest.approx(0.5 + 0.5 * math.exp(-5))
    assert read_grades({"choices": [{"message": {"content": "I say 6."}}]}) == ({6: 0.0}, False)
    assert read_grades({"choices": []}) == ({}, False)
