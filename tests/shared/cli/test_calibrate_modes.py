"""`updraft calibrate` as it is called; the calibration itself is tested in `tests/shared/calibration`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.shared.cli.conftest import Updraft
from tests.shared.test_profiles import profile
from updraft.profiles import profile_path, save_profile


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def test_profiles_are_listed_and_shown(updraft: Updraft) -> None:
    assert "There are no profiles" in updraft("calibrate", "--list").stdout
    save_profile(profile(), profile_path("mine"))
    assert updraft("calibrate", "--list").stdout == "mine\n"
    assert json.loads(updraft("calibrate", "--list", "--json").stdout)["profiles"] == ["mine"]
    shown = updraft("calibrate", "--show", "mine").stdout
    assert "cascade for small and large" in shown and "with probability 0.9" in shown and "98.0%" in shown
    assert json.loads(updraft("calibrate", "--show", "mine", "--json").stdout)["chosen"] == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "There are no prompts"),
        (["--prompts", "none.jsonl"], "cannot be read"),
        (["--prompts", "PROMPTS", "--goal", "speed<=3"], "no 'speed'"),
        (["--prompts", "PROMPTS", "--mode", "walk"], "no mode 'walk'"),
        (["--prompts", "PROMPTS", "--mode", "draft"], "nothing to calibrate"),
        (["--prompts", "PROMPTS", "--grid", "a,b"], "numbers with commas"),
        (["--prompts", "PROMPTS", "--mode", "span", "--score", "energy"], "needs --grid"),
        (["--prompts", "PROMPTS", "--mode", "span", "--score", "odd", "--grid", "1"], "span.score"),
        (["--prompts", "PROMPTS", "--mode", "route", "--score", "odd"], "route.score"),
        (["--prompts", "PROMPTS", "--mode", "route", "--grid", "1"], "leave out --grid"),
        (["--prompts", "PROMPTS", "--score", "energy"], "for span and route"),
        (["--prompts", "PROMPTS", "--out", "a b"], "no name of a profile"),
        (["--show", "none"], "no profile 'none'"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_model_is_loaded(
    updraft: Updraft, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("one\ntwo\n")
    result = updraft("calibrate", *(str(path) if part == "PROMPTS" else part for part in arguments or ["--json"]))
    assert result.exit_code == 2
    assert reason in result.stderr


def test_help_has_both_kinds(updraft: Updraft) -> None:
    text = updraft("calibrate", "--help").stdout
    assert "exits" in text and "--prompts" in text
    assert "staged model" in updraft("calibrate", "exits", "--help").stdout
