from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from tests.shared.demo.samples import event
from updraft.demo.origins import AnswerText, Legend, Source
from updraft.modes import Origin

GREEN, BOLD_CYAN, YELLOW = "\x1b[32m", "\x1b[1;36m", "\x1b[33m"


def shown(renderable: RenderableType, *, colour: bool, no_color: bool = False) -> str:
    file = io.StringIO()
    Console(
        file=file, width=80, force_terminal=colour, color_system="standard" if colour else None, no_color=no_color
    ).print(renderable)
    return file.getvalue()


@pytest.fixture
def answer() -> AnswerText:
    text = AnswerText()
    text.add(event("The"))
    text.add(event(" sky"))
    text.add(event(" is", Origin.CLOUD))
    text.add(event(" blue", Origin.CLOUD))
    text.note_killed()
    text.add(event(" and", verified=False))
    text.add(event(" wide.", verified=False))
    return text


def test_tokens_are_coloured_by_who_answers_for_them(answer: AnswerText) -> None:
    text = shown(answer, colour=True)
    assert f"{GREEN}The sky\x1b[0m" in text
    assert f"{BOLD_CYAN} is blue\x1b[0m" in text
    assert f"{YELLOW} and wide.\x1b[0m" in text
    assert "[" not in text.replace("\x1b[", "") and "{" not in text


@pytest.mark.parametrize("no_color", [False, True])
def test_without_colours_runs_are_marked(answer: AnswerText, no_color: bool) -> None:
    text = shown(answer, colour=no_color, no_color=no_color)
    assert text.strip() == "The sky [is blue] <cloud killed>  {and wide.}"


def test_tokens_are_counted_by_source(answer: AnswerText) -> None:
    assert [answer.counts[source] for source in Source] == [2, 2, 2, 0]


def test_white_space_stays_outside_of_the_marks() -> None:
    text = AnswerText()
    text.add(event("\n\n", Origin.CLOUD))
    assert text.plain() == "\n\n"
    text.add(event("one ", Origin.CLOUD))
    assert text.plain() == "\n\n[one] "


def test_what_a_model_writes_cannot_steer_the_terminal() -> None:
    text = AnswerText()
    text.add(event("\x1b[2J\x9b1m[bold]gone[/]"))
    for colour in (True, False):
        output = shown(text, colour=colour)
        assert "\x1b[2J" not in output and "\x9b" not in output
        assert "[bold]gone[/]" in output


def test_the_legend_shows_each_source_as_it_looks() -> None:
    coloured, plain = shown(Legend(), colour=True), shown(Legend(), colour=False)
    assert f"{BOLD_CYAN}token\x1b[0m" in coloured
    assert "[token]  written by the cloud" in plain and "{token}  written by the edge alone" in plain
    assert all(source.meaning in plain for source in Source if source is not Source.KILLED)
