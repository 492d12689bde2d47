"""`updraft run --trace` and `updraft trace show`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.generator import FakeAgent
from tests.shared.cli.conftest import Updraft
from tests.shared.traces.answers import answer_trace
from updraft.traces.files import TraceWriter, read_traces

Serve = Callable[..., str]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A file with two answers."""
    path = tmp_path / "trace.jsonl"
    for answer in (answer_trace(), answer_trace(("Rain", " falls"))):
        TraceWriter(path).add(answer)
    return path


def test_a_running_agent_records(updraft: Updraft, serve: Serve, tmp_path: Path) -> None:
    agent, path = FakeAgent(["Blue", " light"]), tmp_path / "trace.jsonl"
    options = ("run", "--agent", serve(agent), "--trace", str(path))
    assert updraft(*options, "--system", "Be brief.", "Why?").stdout == "Blue light\n"
    assert json.loads(updraft(*options, "--json", "And?").stdout)["trace"] is None
    assert [request.trace for request in agent.requests] == [True, True]
    first, second = read_traces(path)
    assert (first.text, first.head.prompt, first.head.edge) == ("Blue light", "Be brief.\n\nWhy?", "fake-pair")
    assert [step.kind for step in first.steps] == ["commit", "hand_over"] and second.head.prompt == "And?"


def test_nothing_is_recorded_unasked(updraft: Updraft, serve: Serve) -> None:
    agent = FakeAgent(["Hi"])
    updraft("run", "--agent", serve(agent), "Hello")
    assert not agent.requests[0].trace


def test_a_file_that_cannot_hold_a_trace_is_refused_before_asking(
    updraft: Updraft, serve: Serve, tmp_path: Path
) -> None:
    agent, path = FakeAgent(["Hi"]), tmp_path / "notes.txt"
    path.write_text("notes")
    result = updraft("run", "--agent", serve(agent), "--trace", str(path), "Hello")
    assert result.exit_code == 2 and "is no trace" in result.stderr
    assert path.read_text() == "notes"


def test_a_trace_is_printed(updraft: Updraft, trace: Path) -> None:
    result = updraft("trace", "show", str(trace))
    assert result.exit_code == 0
    assert "The sky isgreen+1  blue" in result.stdout and "Rain" in result.stdout
    assert f"updraft trace show {trace} --out trace.html" in result.stderr


def test_a_page_is_written(updraft: Updraft, trace: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = updraft("trace", "show", str(trace), "--out", str(page), "--answer", "2")
    assert (result.exit_code, result.stdout) == (0, "")
    written = page.read_text(encoding="utf-8")
    assert "falls" in written and "sky" not in written


def test_a_trace_as_json(updraft: Updraft, trace: Path) -> None:
    answers = json.loads(updraft("trace", "show", str(trace), "--json").stdout)
    assert [answer["text"] for answer in answers] == ["The sky is blue", "Rain falls"]
    assert answers[0]["steps"][0]["kind"] == "verify"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--answer", "3"], "holds 2 answers"),
        (["--open"], "--open shows the page"),
        (["--out", "/missing/folder/page.html"], "cannot be written"),
    ],
)
def test_what_cannot_be_shown(updraft: Updraft, trace: Path, arguments: list[str], reason: str) -> None:
    result = updraft("trace", "show", str(trace), *arguments)
    assert result.exit_code == 2 and reason in result.stderr
