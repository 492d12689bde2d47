"""Data files: what is wrong is said with file, line and reason, and nothing else ever comes out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from updraft.errors import InvalidRequest
from updraft.evaluation.data import read_lines, read_text, unique
from updraft.evaluation.tasks.agreement import read_prompts
from updraft.evaluation.tasks.choices import read_questions
from updraft.evaluation.tasks.code import read_exercises
from updraft.evaluation.tasks.gsm8k import read_problems
from updraft.evaluation.tasks.ifeval import read_instructed
from updraft.evaluation.tasks.last_word import read_passages

READERS: dict[str, Callable[[Path], Any]] = {
    "choices": read_questions,
    "maths": read_problems,
    "passages": read_passages,
    "code": read_exercises,
    "instructions": read_instructed,
    "prompts": read_prompts,
}
GOOD: dict[str, dict[str, Any]] = {
    "choices": {"id": "a", "question": "Q?", "choices": ["x", "y"], "answer": 1},
    "maths": {"question": "1+1?", "answer": "It is 2.\n#### 2"},
    "passages": {"text": "the last word"},
    "code": {"task_id": "T/1", "prompt": "def f():\n", "entry_point": "f", "test": "def check(c): pass"},
    "instructions": {
        "key": 1,
        "prompt": "No commas.",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{}],
    },
    "prompts": {"question_id": 1, "category": "c", "turns": ["Hi?"]},
}


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


@pytest.mark.parametrize("name", READERS)
def test_a_good_line_is_read(tmp_path: Path, name: str) -> None:
    assert len(READERS[name](write(tmp_path / "data.jsonl", GOOD[name], ""))) == 1


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "a list; it must be an object"),
        ("3", "a number; it must be an object"),
        ("[" * 100_000, "not JSON"),
        ('{"question": 5, "text": 5, "prompt": 5, "turns": 5, "key": 1}', "5|missing|number"),
        ("{}", "missing|none of turns"),
    ],
)
def test_a_bad_line_is_named_with_its_reason(tmp_path: Path, name: str, line: str, reason: str) -> None:
    path = write(tmp_path / "data.jsonl", GOOD[name], line)
    with pytest.raises(InvalidRequest, match=reason) as caught:
        READERS[name](path)
    assert f"{path}, line 2" in caught.value.message


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("choices", {"answer": 2}, "answer is 2; it must be a whole number from 0 to 1"),
        ("choices", {"answer": True}, "answer is True"),
        ("choices", {"choices": ["x"]}, "at least 2"),
        ("choices", {"choices": ["x", " "]}, "empty"),
        ("choices", {"choices": [str(place) for place in range(11)]}, "at most 10"),
        ("choices", {"question": "  "}, "question is empty"),
        ("maths", {"answer": "no number"}, "does not end with ####"),
        ("passages", {"text": "alone"}, "no last word"),
        ("code", {"entry_point": "f(); import os"}, "no name"),
        ("instructions", {"kwargs": []}, "one object for each"),
        (
            "instructions",
            {"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": 5}]},
            "needs keywords",
        ),
        ("prompts", {"turns": []}, "at least 1"),
    ],
)
def test_fields_out_of_range_are_named(tmp_path: Path, name: str, change: dict[str, Any], reason: str) -> None:
    path = write(tmp_path / "data.jsonl", GOOD[name] | change)
    with pytest.raises(InvalidRequest, match=reason) as caught:
        READERS[name](path)
    assert "line 1" in caught.value.message


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_has_no_items(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match="not one item"):
        read_lines(path)
    with pytest.raises(InvalidRequest, match="empty"):
        read_text(path)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        read_lines(tmp_path / "none.jsonl")
    with pytest.raises(InvalidRequest, match="folder"):
        read_lines(tmp_path)
    (tmp_path / "data.jsonl.gz").write_bytes(b"\x1f\x8bnot gzip")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_lines(tmp_path / "data.jsonl.gz")
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "a b"}\n{"text": "\xe4"}\n')
    with pytest.raises(InvalidRequest, match=r"line 2: it is not UTF-8 \(byte 10"):
        read_lines(tmp_path / "latin.jsonl")


def test_gzipped_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(GOOD["code"]).encode()))
    assert read_exercises(path)[0].id == "T/1"


def test_two_items_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="two items are named 'a'"):
        read_questions(write(tmp_path / "data.jsonl", GOOD["choices"], GOOD["choices"]))
    unique(tmp_path, ["a", "b"])


@given(st.lists(st.one_of(st.text(), st.binary().map(lambda raw: raw.decode("latin-1")), st.just("{}")), max_size=5))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_breaks_a_reader_otherwise(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8", errors="replace")
    for reader in READERS.values():
        with pytest.raises(InvalidRequest):
            reader(path)


_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(READERS)), st.data())
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_of_a_field_breaks_a_reader(tmp_path: Path, name: str, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(sorted(GOOD[name])))
    path = write(tmp_path / "data.jsonl", GOOD[name] | {field: data.draw(_values)})
    try:
        assert len(READERS[name](path)) == 1
    except InvalidRequest as error:
        assert str(path) in error.message
