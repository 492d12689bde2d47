from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from tests.shared.train.conftest import PREFIX, conversations, write_lines
from updraft.engine import Engine, open_engine
from updraft.errors import InvalidRequest, ModelNotFound
from updraft.train.conversations import Conversation, common_prefix, read_conversations, split_held_out

TEXT = conversations(12)


def _lines(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_lines_plain_and_compressed(tmp_path: Path) -> None:
    plain = write_lines(tmp_path / "a.jsonl", TEXT)
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_conversations([plain, packed], vocabulary=320, longest=512) == [*TEXT, *TEXT]


def test_conversations_are_cut_to_the_longest(tmp_path: Path) -> None:
    line = json.dumps({"prompt": [1, 2, 3], "response": list(range(4, 40)), "number": 7})
    found = read_conversations([_lines(tmp_path / "a.jsonl", line, "", "  ")], vocabulary=320, longest=16)
    assert found == [Conversation((1, 2, 3), tuple(range(4, 17)))]
    assert found[0].tokens.tolist() == [1, 2, 3, *range(4, 17)]
    assert found[0].tokens.dtype == np.int32


def test_an_answer_without_a_prompt_is_text(tmp_path: Path) -> None:
    path = _lines(tmp_path / "a.jsonl", '{"response": [5, 6]}')
    assert read_conversations([path], vocabulary=320, longest=16) == [Conversation((), (5, 6))]


@pytest.fixture(scope="module")
def engine(trunk_path: Path) -> Engine:
    return open_engine(trunk_path, context=64, sequences=1, threads=1)


def test_plain_text_is_tokenised_and_cut(tmp_path: Path, engine: Engine) -> None:
    text = "the end of the line and the start of another ü\n" * 9
    path = tmp_path / "a.md"
    path.write_text(text, encoding="utf-8")
    found = read_conversations([path], vocabulary=320, longest=50, tokenizer=engine.tokenizer)
    tokens = [token for conversation in found for token in conversation.response]
    assert tokens == list(engine.tokenizer.encode(text))
    assert {len(c.response) for c in found[:-1]} == {50} and not any(c.prompt for c in found)


def test_plain_text_that_cannot_be_used(tmp_path: Path, engine: Engine) -> None:
    path = _lines(tmp_path / "a.txt", "words")
    with pytest.raises(InvalidRequest, match="needs the model's tokenizer"):
        read_conversations([path], vocabulary=320, longest=50)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequest, match="UTF-8"):
        read_conversations([path], vocabulary=320, longest=50, tokenizer=engine.tokenizer)
    path.write_bytes(b"")
    with pytest.raises(InvalidRequest, match="no text to train on"):
        read_conversations([path], vocabulary=320, longest=50, tokenizer=engine.tokenizer)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2 is not a conversation"),
        ("[" * 100_000, "line 2 is not a conversation"),
        ("[1, 2]", "line 2 is not a conversation"),
        ('{"prompt": [1]}', "line 2 is not a conversation"),
        ('{"response": 3}', "line 2 is not a conversation"),
        ('{"prompt": null, "response": [3]}', "line 2 is not a conversation"),
        ('{"response": "text"}', "not among the model's 320"),
        ('{"response": [320]}', "not among the model's 320"),
        ('{"response": [-1]}', "not among the model's 320"),
        ('{"response": [true]}', "not among the model's 320"),
        ('{"response": [1.0]}', "not among the model's 320"),
        ('{"prompt": [9], "response": []}', "1 prompt and 0 answer tokens of 4"),
        ('{"prompt": [9, 9, 9, 9], "response": [3]}', "4 prompt and 1 answer tokens of 4"),
    ],
)
def test_lines_that_are_no_conversations_are_refused(tmp_path: Path, line: str, reason: str) -> None:
    path = _lines(tmp_path / "a.jsonl", '{"response": [3]}', line)
    with pytest.raises(InvalidRequest, match=reason):
        read_conversations([path], vocabulary=320, longest=4)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no text at"):
        read_conversations([tmp_path / "nothing.jsonl"], vocabulary=320, longest=4)
    with pytest.raises(InvalidRequest, match="no text to train on"):
        read_conversations([_lines(tmp_path / "empty.jsonl", "")], vocabulary=320, longest=4)
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xff")
    packed = gzip.compress(b'{"response": [3]}\n' * 999)
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[:-12])
    (tmp_path / "no.jsonl.gz").write_bytes(b"not compressed")
    damaged = bytearray(packed)
    damaged[12:20] = b"\xff" * 8
    (tmp_path / "damaged.jsonl.gz").write_bytes(damaged)
    for name in ("bad.jsonl", "cut.jsonl.gz", "no.jsonl.gz", "damaged.jsonl.gz"):
        with pytest.raises(InvalidRequest, match="cannot be read"):
            read_conversations([tmp_path / name], vocabulary=320, longest=4)


def test_answers_to_one_prompt_fall_on_the_same_side() -> None:
    prompts = [(1, n) for n in range(300)]
    text = [Conversation(prompt, (7, n)) for prompt in prompts for n in range(3)]
    training, held_out = split_held_out(text, 0.1)
    assert sorted([*training, *held_out], key=lambda c: c.prompt + c.response) == text
    assert {c.prompt for c in training}.isdisjoint({c.prompt for c in held_out})
    assert 10 < len(held_out) / 3 < 60


def test_the_side_depends_on_nothing_else() -> None:
    text = conversations(200)
    _, held_out = split_held_out(text, 0.2)
    _, again = split_held_out(list(reversed(text[50:])), 0.2)
    assert set(again) == set(held_out) & set(text[50:])
    _, more = split_held_out(text, 0.4)
    assert set(held_out) < set(more)


def test_plain_text_is_split_by_its_pieces() -> None:
    text = [Conversation((), (n, n + 1)) for n in range(400)]
    training, held_out = split_held_out(text, 0.25)
    assert 50 < len(held_out) < 150 and len(training) + len(held_out) == 400


def test_what_all_prompts_begin_with() -> None:
    assert common_prefix(TEXT) == len(PREFIX)
    assert common_prefix([*TEXT, Conversation((), (1, 2))]) == len(PREFIX)
    assert common_prefix(TEXT[:1]) == common_prefix([]) == 0
    assert common_prefix([Conversation((1, 2), (3,)), Conversation((1, 2), (4,))]) == 2
    assert common_prefix([Conversation((1, 2), (3,)), Conversation((1, 2, 5), (4,))]) == 2
    assert common_prefix([Conversation((1, 2), (3,)), Conversation((4, 2), (4,))]) == 0
