"""Trace files: what is written is read again, by its owner alone, and damage is named with its line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.shared.traces.answers import answer_trace, drafted
from updraft.errors import ConfigError, InvalidRequest
from updraft.generation import Completion, Statistics, TokenEvent
from updraft.modes import Origin
from updraft.traces.files import AnswerTrace, TraceWriter, read_traces
from updraft.traces.steps import Trace, TraceStep


def event(index: int, text: str, entropy: float = 0.5) -> TokenEvent:
    return TokenEvent(index, 7, text, -0.1, entropy, 3.0, Origin.EDGE, False, 0.1 * index)


def completion(trace: Trace | None) -> Completion:
    return Completion("ab", [7, 7], "stop", "auto", "updraft", 3, statistics=Statistics(tokens=2), trace=trace)


def test_answers_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "trace.jsonl"
    answers = [answer_trace(), answer_trace(("Ünï", "\n", "\u202e<b>"), mode="auto", chosen="span")]
    for answer in answers:
        TraceWriter(path).add(answer)
    assert read_traces(path) == answers
    assert answers[1].text == "Ünï\n\u202e<b>"


def test_only_the_owner_may_read_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    TraceWriter(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_answer_is_made_of_what_a_client_saw() -> None:
    step = TraceStep(0, "commit", drafted("a", "b"), 2, 2, 0.0, 0.1)
    trace = Trace("small", None, {"mode": "edge"}, [step])
    events = [event(-1, "prompt"), event(0, "a"), event(1, "b", math.nan)]
    answer = AnswerTrace.of("bad \udcff bytes", events, completion(trace))
    assert answer.text == "ab" and answer.tokens[1].entropy is None
    assert answer.head.prompt == "bad ? bytes" and answer.head.mode == "auto"
    assert answer.steps == [step]


def test_an_answer_without_a_trace_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="without a trace"):
        AnswerTrace.of("", [], completion(None))


def test_a_file_that_is_no_trace_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n")
    with pytest.raises(ConfigError, match="is no trace"):
        TraceWriter(path)
    assert path.read_text() == "my notes\n"


def test_a_folder_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        TraceWriter(tmp_path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 1: not JSON"),
        ("[]", "line 1: not a line of a trace"),
        ('{"record": ["answer"]}', "line 1: not a line of a trace"),
        ('{"record": "answer", "version": 2}', "line 1: version 2"),
        ('{"record": "answer", "version": 1}', "line 1: updraft"),
        ('{"record": "step"}', "line 1: position"),
        ('{"record": "token", "index": "0"}', "line 1: index"),
        ("[" * 100_000, "line 1: not JSON"),
        ("", "line 1: not JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InvalidRequest, match=reason):
        read_traces(path)


def test_a_token_needs_an_answer_before_it(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    TraceWriter(path).add(answer_trace())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[1:]))
    with pytest.raises(InvalidRequest, match="line 1: a line 'step' without an answer"):
        read_traces(path)


def test_an_answer_torn_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    TraceWriter(path).add(answer_trace())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    assert read_traces(path) == [answer_trace()]
    path.write_bytes(whole[:-10])
    with pytest.raises(InvalidRequest, match="no whole answer"):
        read_traces(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_traces(tmp_path / "missing.jsonl")


def test_lines_are_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    TraceWriter(path).add(answer_trace())
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["record"] for record in records] == ["answer", "step", *["token"] * 4, "end"]
    assert records[1]["kind"] == "verify" and records[2]["origin"] == "edge"
