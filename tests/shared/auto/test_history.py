"""The history: kept over restarts, bounded, safe against crashes, begun anew where it is damaged."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from tests.shared.auto.situations import record
from updraft.auto.history import History, history_path, read_history
from updraft.errors import ConfigError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "auto.jsonl"


def test_records_are_kept(path: Path) -> None:
    history = History(path)
    records = [record("edge", reward=0.5), record("draft", random=True)]
    for one in records:
        history.add(one)
    assert History(path).records == history.records == records
    assert path.stat().st_mode & 0o777 == 0o600


def test_lines_hold_numbers_and_names_of_arms_alone(path: Path) -> None:
    History(path).add(record())
    (line,) = path.read_text().splitlines()

    def texts(value: object) -> list[str]:
        if isinstance(value, dict):
            return [text for item in value.values() for text in texts(item)]
        return [value] if isinstance(value, str) else []

    assert texts(json.loads(line)) == ["p", "balanced", "draft"]


def test_the_file_is_made_shorter_again(path: Path) -> None:
    history = History(path, kept=5)
    for number in range(23):
        history.add(record(time=float(number)))
    lengths = [len(history.records), len(read_history(path))]
    assert lengths[0] == lengths[1] < 10
    assert [one.time for one in history.records][-5:] == [18.0, 19.0, 20.0, 21.0, 22.0]
    assert [entry.name for entry in path.parent.iterdir()] == ["auto.jsonl"]


def test_without_a_file_the_latest_are_remembered() -> None:
    history = History(None, kept=3)
    for number in range(5):
        history.add(record(time=float(number)))
    assert [one.time for one in history.records] == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("cut", [1, 5, 200])
def test_a_line_torn_by_a_crash_is_mended(path: Path, cut: int) -> None:
    history = History(path)
    history.add(record(time=1.0))
    history.add(record(time=2.0))
    path.write_bytes(path.read_bytes()[:-cut])
    again = History(path)
    again.add(record(time=3.0))
    assert [one.time for one in History(path).records] == [1.0, 3.0]


@pytest.mark.parametrize(
    "damage",
    [b"\x00\xff\n", b"{}\n", b"[]\n", b"not json\n", b"[" * 50_000 + b"\n", b"\n", b'{"version": 2}\n'],
    ids=["bytes", "object", "list", "words", "deep", "empty", "version"],
)
def test_a_damaged_file_is_moved_aside(path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    History(path).add(record())
    whole = path.read_bytes()
    path.write_bytes(whole + damage + whole)
    with caplog.at_level(logging.WARNING):
        history = History(path)
    assert history.records == [] and "line 2" in caplog.text
    assert path.with_name("auto.jsonl.damaged").read_bytes() == whole + damage + whole
    history.add(record(time=9.0))
    assert [one.time for one in History(path).records] == [9.0]


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity", '"0.5"', "null", "1e999"])
def test_numbers_must_be_numbers(path: Path, bad: str) -> None:
    History(path).add(record(reward=0.625))
    path.write_text(path.read_text().replace("0.625", bad))
    with pytest.raises(ConfigError, match="line 1"):
        read_history(path)


@pytest.mark.skipif(os.name != "posix", reason="folders without write permission")
def test_a_file_that_cannot_be_written_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    history = History(tmp_path / "file" / "auto.jsonl")
    with caplog.at_level(logging.WARNING):
        history.add(record())
        history.add(record())
    assert len(history.records) == 2
    assert caplog.text.count("is not kept") + caplog.text.count("without its history") >= 1


def test_where_it_is_kept() -> None:
    assert history_path("off") is None
    assert history_path("/a/b.jsonl") == Path("/a/b.jsonl")
    assert history_path("default", {"XDG_STATE_HOME": "/state"}) == Path("/state/updraft/auto.jsonl")
    home = history_path("default", {})
    assert home is not None and home == Path.home() / ".local" / "state" / "updraft" / "auto.jsonl"
