from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from updraft.engine.llama import LlamaEngine
from updraft.engine.llama_tokenizer import MAX_TEXT_BYTES, LlamaTokenizer
from updraft.errors import InvalidRequest, RequestTooLarge


@pytest.fixture(scope="module")
def tokenizer(tiny_model_path: Path) -> Iterator[LlamaTokenizer]:
    engine = LlamaEngine(tiny_model_path, context=64, sequences=1, threads=1)
    yield engine.tokenizer
    engine.shutdown()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_pieces_join_to_the_text(tokenizer: LlamaTokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    assert b"".join(map(tokenizer.piece, tokens)) == text.encode()


def test_control_tokens_are_read_only_on_request(tokenizer: LlamaTokenizer) -> None:
    assert 2 not in tokenizer.encode("<|im_end|>")
    assert tokenizer.encode("<|im_end|>", special=True) == [2]
    assert tokenizer.piece(2) == b""


def test_merges_are_used(tokenizer: LlamaTokenizer) -> None:
    assert len(tokenizer.encode(" the")) == 1


def test_a_model_without_bos_adds_none(tokenizer: LlamaTokenizer) -> None:
    assert tokenizer.encode("a", start=True) == tokenizer.encode("a")


@pytest.mark.parametrize("token", [-1, 320, 10**9])
def test_pieces_outside_the_vocabulary_are_refused(tokenizer: LlamaTokenizer, token: int) -> None:
    with pytest.raises(InvalidRequest, match="320 tokens"):
        tokenizer.piece(token)


def test_lone_surrogates_are_refused(tokenizer: LlamaTokenizer) -> None:
    with pytest.raises(InvalidRequest, match="index 2"):
        tokenizer.encode("ab\ud800")


@pytest.mark.parametrize("text", ["a" * (MAX_TEXT_BYTES + 1), "é" * (MAX_TEXT_BYTES // 2 + 1)])
def test_texts_over_the_limit_are_refused(tokenizer: LlamaTokenizer, text: str) -> None:
    with pytest.raises(RequestTooLarge, match=str(MAX_TEXT_BYTES)):
        tokenizer.encode(text)


def test_nothing_and_zero_bytes(tokenizer: LlamaTokenizer) -> None:
    assert tokenizer.encode("") == []
    assert b"".join(map(tokenizer.piece, tokenizer.encode("a\0b"))) == b"a\0b"
