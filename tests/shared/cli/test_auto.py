"""`updraft auto show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.shared.auto.situations import record
from tests.shared.cli.conftest import Updraft
from updraft.auto.history import History


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "auto.jsonl"
    kept = History(path)
    for number in range(20):
        arm = "edge" if number % 4 else "draft"
        kept.add(record(arm, time=1e9 + number, random=number % 4 == 0, propensity=0.1 if arm == "draft" else 0.9))
    kept.add(record("cloud", pair="another"))
    kept.add(record("edge", goal="cost"))
    return path


def test_the_log_is_shown(updraft: Updraft, history: Path) -> None:
    result = updraft("auto", "show", str(history), "--last", "3")
    assert result.exit_code == 0, result.stderr
    assert "21 choices, 5 of them drawn at random, goal cost" in result.stdout
    assert "by propensity" in result.stdout and "regret by the model" in result.stdout
    assert "cascade" not in result.stdout


def test_the_log_as_json(updraft: Updraft, history: Path) -> None:
    shown = json.loads(updraft("auto", "show", str(history), "--json", "--goal", "quality", "--last", "2").stdout)
    assert (shown["goal"], shown["choices"], shown["pair"], len(shown["last"])) == ("quality", 21, "p", 2)
    assert {arm["name"]: arm["chosen"] for arm in shown["arms"]} == {"edge": 16, "draft": 5}
    assert len(shown["regret"]) == 21


def test_regret_is_drawn(updraft: Updraft, history: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "regret.png"
    assert updraft("auto", "show", str(history), "--out", str(picture)).exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    refused = updraft("auto", "show", str(history), "--out", str(tmp_path / "missing" / "regret.png"))
    assert refused.exit_code == 2 and "cannot be written" in refused.stderr


def test_the_configured_file_is_the_usual_one(updraft: Updraft, history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPDRAFT_EDGE__AUTO_HISTORY", str(history))
    assert "21 choices" in updraft("auto", "show").stdout
    monkeypatch.setenv("UPDRAFT_EDGE__AUTO_HISTORY", "off")
    assert "nothing is kept" in updraft("auto", "show").stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["missing.jsonl"], "holds no choices"), (["--goal", "fame"], "There is no goal 'fame'")],
)
def test_what_cannot_be_shown(updraft: Updraft, history: Path, arguments: list[str], reason: str) -> None:
    given = arguments if arguments[0].startswith("missing") else [str(history), *arguments]
    result = updraft("auto", "show", *given)
    assert result.exit_code == 2 and reason in result.stderr


def test_a_damaged_file_is_named_and_left_alone(updraft: Updraft, history: Path) -> None:
    history.write_text("{}\n")
    result = updraft("auto", "show", str(history))
    assert result.exit_code == 2 and "line 1" in result.stderr
    assert history.read_text() == "{}\n"
