"""The page shows every token, escapes everything, and neither loads nor runs anything."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.shared.traces.answers import answer_trace
from updraft.modes import Origin
from updraft.traces.files import AnswerTrace
from updraft.traces.look import heat, placed, printable
from updraft.traces.page import trace_page
from updraft.traces.terminal import show_traces

HOSTILE = st.text(max_size=12) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        "</style>",
        "\" onmouseover='x'",
        "<!--",
        "]]>",
        "&lt;",
        "\x1b[2J",
        "\u202egpj.exe",
        "\n",
    ]
)
TAGS = {"html", "head", "meta", "title", "style", "body", "main", "header", "div", "h1", "h2", "h3", "p", "span"}
TAGS |= {"label", "input", "article", "details", "summary", "pre", "section", "i", "em", "b", "del", "small", "svg"}
TAGS |= {"line", "rect", "text", "table", "thead", "tbody", "tr", "th", "td", "nav", "a"}
VOID = {"meta", "input"}
OURS = {"class", "style", "id", "type", "name", "checked", "href", "content", "http-equiv", "charset", "lang", "role"}
OURS |= {"aria-label", "viewbox", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "rx", "text-anchor", "data-k"}


class Page(HTMLParser):
    """Collects tags, attributes and the text of the answers; fails where tags do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.answer = ""
        self._open: list[tuple[str, str]] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in ("href", "src")}
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        classes = [kind for _, kind in self._open]
        aside = any(kind in ("tip", "nl", "legend") for kind in classes) or any(tag == "del" for tag, _ in self._open)
        if "answer" in classes and not aside:
            self.answer += data


def terminal(answers: list[AnswerTrace]) -> str:
    console = Console(file=io.StringIO(), width=100, color_system="truecolor", force_terminal=True)
    show_traces(answers, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_text_is_there_token_by_token() -> None:
    page = trace_page([answer_trace()], name="sky.jsonl")
    assert Page(page).answer == "The sky is blue"
    assert '<del> green<span class="more"> today</span><span class="count">+1</span></del>' in page
    assert "drafted by the edge, seen by the cloud" in page and "written by the cloud" in page
    assert "waited 42 ms" in page and "60 B up" in page


def test_several_answers_have_an_index() -> None:
    page = Page(trace_page([answer_trace(), answer_trace(mode="auto", chosen="span")]))
    assert page.links == {"#a1", "#a2"}
    assert not Page(trace_page([answer_trace()])).links


@given(st.lists(HOSTILE, min_size=1, max_size=5), HOSTILE, HOSTILE)
def test_hostile_text_stays_text(texts: list[str], prompt: str, name: str) -> None:
    answer = answer_trace(tuple(texts), prompt=prompt, edge=name, mode=name, settings={name: prompt}, written=name)
    source = trace_page([answer, answer], name=name)
    page = Page(source)
    assert page.tags <= TAGS and page.attributes <= OURS
    assert page.links == {"#a1", "#a2"}
    assert page.answer == 2 * printable("".join(texts)).replace("\r", "�")
    assert "default-src 'none'" in source and not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", source)
    assert "\x1b[2J" not in terminal([answer])


def test_a_trace_without_figures_is_shown() -> None:
    answer = answer_trace(())
    assert Page(trace_page([answer])).answer == ""
    assert "nothing was waited for" not in terminal([answer])
    answer.steps.clear()
    answer.tokens.clear()
    answer.end.statistics.drafted = 0
    assert "nothing was waited for" in terminal([answer])
    trace_page([answer])


def test_the_terminal_shows_text_rejected_drafts_and_waits() -> None:
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal([answer_trace()]))
    assert "The sky isgreen+1  blue" in shown
    assert "longest waits: 42 ms at token 0" in shown
    assert "small with large" in shown


def test_tokens_are_placed_in_their_steps() -> None:
    places = list(placed(answer_trace()))
    assert [place.first for place in places] == [True, False, False, False]
    assert [place.replaces for place in places] == [False, False, False, True]
    assert [place.stood for place in places] == [True, True, True, False]
    assert places[3].token.origin is Origin.CLOUD


def test_heat_grows_with_entropy() -> None:
    shades = [heat(None), heat(0.0), heat(0.5), heat(3.0), heat(20.0)]
    assert shades == sorted(shades) and shades[0] == 0.0 and shades[-1] <= 1.0
