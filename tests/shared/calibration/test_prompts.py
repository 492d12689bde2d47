"""Prompts of any of the forms, each once and in no order that the file gives; what is none is named with its line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.calibration.prompts import read_prompts
from updraft.errors import InvalidRequest


def texts(path: Path, content: str, **options: int) -> set[str]:
    path.write_text(content, encoding="utf-8")
    return {prompt.messages[-1].content for prompt in read_prompts(str(path), **options)}


def test_json_lines_of_every_kind(tmp_path: Path) -> None:
    lines = [
        {"prompt": "one"},
        {"question": "two"},
        {"turns": ["three", "and then?"]},
        {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "four"}]},
        {"instruction": "five", "input": "of these"},
        {"instruction": "six", "input": ""},
        {"text": "seven"},
        "eight",
    ]
    content = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    found = texts(tmp_path / "p.jsonl", content)
    assert found == {"one", "two", "three", "four", "five\n\nof these", "six", "seven", "eight"}


def test_a_json_array_and_plain_text(tmp_path: Path) -> None:
    assert texts(tmp_path / "p.json", '[{"instruction": "one", "input": "x"}, "two"]') == {"one\n\nx", "two"}
    assert texts(tmp_path / "p.txt", "\ufeffone\n\n  two \r\n") == {"one", "two"}


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"prompt": "one"}\n'))
    assert [prompt.messages[0].content for prompt in read_prompts("-")] == ["one"]


def test_prompts_are_taken_once_and_in_an_order_of_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("\n".join(f"question {n % 20}" for n in range(40)))
    first = read_prompts(str(path), seed=1)
    assert len(first) == 20 == len({prompt.key for prompt in first})
    assert first == read_prompts(str(path), seed=1) != read_prompts(str(path), seed=2)
    assert read_prompts(str(path), most=5, seed=1) == first[:5]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"prompt": "one"}\n{"prompt": ', "line 2 is not JSON"),
        ('{"prompt": "one"}\n\n[1]', "line 3 is a list"),
        ('{"other": "one"}', "line 1 has none of messages"),
        ('{"prompt": "  "}', "line 1: the prompt is empty"),
        ('{"prompt": 3}', "line 1: the prompt is not a text"),
        ('{"turns": []}', "line 1: turns must be"),
        ('{"messages": []}', "line 1: messages must be"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "a message needs a role"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "the last message is the assistant's"),
        ("", "holds no prompts"),
        ("\n \n", "holds no prompts"),
        ('[{"prompt": "one"}, {}]', "entry 2 has none"),
        ("[1", "is not JSON"),
        ("{" * 5000, "line 1 is not JSON"),
    ],
)
def test_what_is_no_prompt_is_named(content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(content)
    with pytest.raises(InvalidRequest) as caught:
        read_prompts(str(path))
    assert reason in caught.value.message
    assert str(path) in caught.value.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_prompts(str(tmp_path / "none.jsonl"))
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="UTF-8"):
        read_prompts(str(tmp_path / "bad.txt"))


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(text))
        try:
            found = read_prompts("-")
        except InvalidRequest as error:
            assert "standard input" in error.message
        else:
            assert found and all(prompt.messages[-1].content.strip() for prompt in found)
