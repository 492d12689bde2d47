from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.shared.train.conftest import conversations, write_lines
from updraft.engine import open_engine
from updraft.engine.base import Tokenizer
from updraft.errors import InvalidRequest, ModelNotFound
from updraft.train.conversations import Conversation
from updraft.train.moe.text import Rows, read_texts


@pytest.fixture(scope="module")
def tokenizer(trunk_path: Path) -> Tokenizer:
    return open_engine(trunk_path, context=64, sequences=1, threads=1).tokenizer


def _read(tokenizer: Tokenizer, *paths: Path, longest: int = 200) -> dict[str, list[Conversation]]:
    return read_texts(paths, vocabulary=320, longest=longest, tokenizer=tokenizer)


def _text(tokenizer: Tokenizer, tokens: tuple[int, ...]) -> str:
    return "".join(tokenizer.written(token) for token in tokens).replace("Ġ", " ").replace("Ċ", "\n")


def _records(path: Path, records: list[Any]) -> Path:
    lines = json.dumps(records) if path.suffix == ".json" else "\n".join(map(json.dumps, records))
    path.write_text(lines, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("record", "question", "answer"),
    [
        ({"question": "one and one?", "answer": "It is 1+1=<<1+1=2>>2."}, "one and one?", "It is 1+1=2."),
        ({"instruction": "add", "input": "1 1", "output": "2"}, "add\n\n1 1", "2"),
        ({"instruction": "add", "input": "", "output": " 2 "}, "add", "2"),
        ({"instruction": "add", "instances": [{"input": "1 1", "output": "2"}]}, "add\n\n1 1", "2"),
        ({"prompt": "hello", "response": "the end"}, "hello", "the end"),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_questions_become_conversations(
    tmp_path: Path, tokenizer: Tokenizer, suffix: str, record: dict[str, Any], question: str, answer: str
) -> None:
    path = _records(tmp_path / f"a{suffix}", [record])
    ((name, (made,)),) = _read(tokenizer, path).items()
    assert name == f"{tmp_path.name}/a{suffix}"
    prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    assert (_text(tokenizer, made.prompt), _text(tokenizer, made.response)) == (prompt, f"{answer}<|im_end|>")


def test_a_folder_stands_for_its_files(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "more").mkdir()
    text = conversations(3)
    write_lines(tmp_path / "tokens.jsonl", text)
    _records(tmp_path / "more/q.json", [{"question": "a", "answer": "b"}] * 2)
    (tmp_path / "plain.txt").write_text("the end " * 100)
    (tmp_path / "SOURCE.md5").write_text("no text")
    found = _read(tokenizer, tmp_path)
    assert {name.split("/")[-1]: len(some) for name, some in found.items() if "plain" not in name} == {
        "tokens.jsonl": 3,
        "q.json": 2,
    }
    assert found[f"{tmp_path.name}/tokens.jsonl"] == text
    assert all(len(c.tokens) <= 200 for c in found[f"{tmp_path.name}/plain.txt"])


def test_what_is_given_twice_counts_twice(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = write_lines(tmp_path / "tokens.jsonl", conversations(3))
    ((_, twice),) = _read(tokenizer, path, path).items()
    assert twice == conversations(3) * 2


def test_long_questions_are_left_out_and_long_answers_cut(tmp_path: Path, tokenizer: Tokenizer) -> None:
    records = [{"question": "x" * 100, "answer": "y"}, {"question": "x", "answer": "y" * 100}]
    ((_, (made,)),) = _read(tokenizer, _records(tmp_path / "a.json", records), longest=50).items()
    assert len(made.tokens) == 50


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{"),
        ("a.json", "{}"),
        ("a.json", "[]"),
        ("a.json", "[1]"),
        ("a.json", '[{"question": "a"}]'),
        ("a.json", '[{"question": "a", "answer": 7}]'),
        ("a.json", '[{"instruction": "a", "instances": 3}]'),
        ("a.jsonl", "no json"),
        ("a.jsonl", '{"response": [1, 999]}'),
    ],
)
def test_other_records_are_refused(tmp_path: Path, tokenizer: Tokenizer, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidRequest):
        _read(tokenizer, tmp_path / name)


def test_where_nothing_is(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(ModelNotFound):
        _read(tokenizer, tmp_path / "gone.json")
    with pytest.raises(InvalidRequest, match="no text"):
        _read(tokenizer, tmp_path)


def test_rows_hold_every_token_of_an_epoch_once() -> None:
    text = [Conversation((), tuple(range(n * 10, n * 10 + 7))) for n in range(9)]
    rows = Rows(text, 10, seed=3)
    assert rows.an_epoch == 6
    first = rows.load(0, 6)
    assert first.shape == (6, 11) and (first[1:, 0] == first[:-1, -1]).all()  # a row's last target starts the next
    seen = first[:, :-1].ravel()
    assert len(set(seen)) == 60 and set(seen) < {token for c in text for token in c.response}
    assert (rows.load(0, 6) == first).all()
    assert (rows.load(6, 6) != first).any()
    assert (np.concatenate([rows.load(4, 1), rows.load(5, 3)]) == rows.load(4, 4)).all()
    assert (Rows(text, 10, seed=4).load(0, 6) != first).any()


def test_too_little_text_for_a_row() -> None:
    with pytest.raises(InvalidRequest, match="do not fill one row"):
        Rows([Conversation((1,), (2, 3))], 3, seed=0)
