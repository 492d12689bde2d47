from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console
from rich.text import Text

from tests.shared.demo.samples import completion, event
from updraft.demo.screen import Screen
from updraft.errors import ConfigError
from updraft.modes import Origin


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=80, force_terminal=terminal, color_system="standard" if terminal else None), file


def test_an_answer_in_a_file_is_written_once_with_its_counts() -> None:
    where, file = console()
    with Screen(where).answer("Why?", "draft") as view:
        view.text.add(event("Because"))
        assert file.getvalue() == ""
        view.text.add(event(" so", Origin.CLOUD))
        view.finish(completion(tokens=2, cloud_passes=1))
    text = file.getvalue()
    assert text.count("Because") == 1 and text.endswith("╯\n")
    assert "Why?" in text and "draft · 2 tokens: 1 verified, 1 cloud · 1 cloud passes" in text
    assert "edge alone" not in text and "degraded" not in text


def test_an_answer_on_a_terminal_grows() -> None:
    where, file = console(terminal=True)
    with Screen(where).answer("Why?", "draft") as view:
        view.text.add(event("Because"))
        view.finish(completion(tokens=1, degraded=True))
    assert "Because" in file.getvalue() and "degraded" in file.getvalue()


def test_progress_counts_the_steps_that_are_done() -> None:
    where, file = console(terminal=True)
    with Screen(where).progress(2) as step:
        step("edge")
        step("cloud")
    assert "cloud" in file.getvalue() and "1/2" in file.getvalue()


def test_nothing_but_words_of_patience_where_lines_cannot_be_replaced() -> None:
    where, file = console()
    screen = Screen(where, quiet=True)
    with screen.waiting("Looking") as say, screen.progress(1) as step:
        say("Requantising [x]")
        step("edge")
    assert file.getvalue() == "Requantising [x]\n"


def test_a_quiet_screen_shows_no_answers() -> None:
    where, file = console(terminal=True)
    screen = Screen(where, quiet=True)
    screen.section("Heading", "words")
    with screen.answer("Why?", "draft") as view:
        view.text.add(event("Because"))
        view.finish(completion(tokens=1))
    assert file.getvalue() == ""


def test_the_picture_holds_each_answer_once_and_fetches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    where, _ = console(terminal=True)
    screen = Screen(where, capture=True)
    screen.section("Heading")
    screen.show(Text("below"))
    with screen.answer("Why?", "draft") as view:
        view.text.add(event("Because"))
        view.text.add(event(" so", Origin.CLOUD))
        view.finish(completion(tokens=2))
    screen.save(tmp_path / "demo.svg")
    svg = (tmp_path / "demo.svg").read_text("utf-8")
    text = "".join(ElementTree.fromstring(svg).itertext())  # noqa: S314  # made here
    assert text.count("Because") == 1 and "Heading" in text and "below" in text
    assert "@font-face" not in svg and 'url("http' not in svg
    assert "[" not in text


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    screen = Screen(console()[0], capture=True)
    with pytest.raises(ConfigError, match="No such file"):
        screen.save(tmp_path / "missing" / "demo.svg")
