"""Report pages: nothing that comes in as text can become markup, and nothing is fetched from elsewhere."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from updraft.evaluation.charts import Bar, Point, Series, bar_chart, line_chart, nice_ticks, percent
from updraft.evaluation.page import facts, figure, join, note, page, paragraph, section, table, tiles

NASTY = "<script>alert('x')</script> & \"quoted\" ' </style>"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(document: str) -> _Tags:
    tags = _Tags()
    tags.feed(document)
    return tags


def whole(text: str) -> str:
    chart = line_chart([Series(text, [Point(0, 1, text), Point(1, 2)])], x_label=text, y_label=text)
    bars = bar_chart([Bar(text, 0.5, 0.4, 0.6)], x_label=text)
    parts = [
        note(text, warning=True),
        paragraph(text),
        tiles([(text, text, text)]),
        facts([(text, text)]),
        table([text, "b"], [[text, 1], ["c", text]], chosen=1),
        figure((chart, text, text), (bars, text, text)),
    ]
    return page(text, [section(text, join(*parts))], subtitle=text)


def test_text_never_becomes_markup() -> None:
    harmless, nasty = read(whole("plain")), read(whole(NASTY))
    assert nasty.tags == harmless.tags
    assert any(NASTY in text for text in nasty.text)


@given(st.text(min_size=1, max_size=40))
def test_any_text_leaves_the_structure_alone(text: str) -> None:
    assert read(whole(text)).tags == read(whole("plain")).tags


def test_a_page_is_whole_in_itself() -> None:
    document = whole("plain")
    assert read(document).links == []
    assert "@import" not in document and "url(" not in document
    assert "prefers-color-scheme: dark" in document


def test_charts_are_well_formed_and_show_every_point() -> None:
    series = [
        Series("a < b", [Point(0.0, 1.0, low=0.5, high=1.5), Point(1.0, 2.0, low=1.5, high=2.5)], "band"),
        Series("base", [Point(0.0, 0.0), Point(1.0, 1.0)], "dashed"),
        Series("chosen", [Point(0.5, 1.5, "here")], "star"),
    ]
    tree = ElementTree.fromstring(line_chart(series, x_label="share", y_label="loss", x_format=percent))  # noqa: S314 (our own)
    tips = [node.get("data-tip") for node in tree.iter() if node.get("data-tip")]
    assert len(tips) == 5
    assert tips[0] == "a < b\nshare: 0%\nloss: 1 (0.5 to 1.5)"
    assert tips[-1] is not None and tips[-1].startswith("chosen\nhere\n")


def test_bars_grow_from_zero_to_both_sides() -> None:
    tree = ElementTree.fromstring(bar_chart([Bar("gain", 2.0), Bar("loss", -1.0, -1.5, -0.5)], x_label="points"))  # noqa: S314
    gain, loss = [node for node in tree.iter("rect") if node.get("data-tip")]
    zero = float(gain.get("x", ""))
    assert float(loss.get("x", "")) + float(loss.get("width", "")) == pytest.approx(zero, abs=0.2)
    assert float(gain.get("width", "")) == pytest.approx(2 * float(loss.get("width", "")), abs=0.3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_cannot_be_shown_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN"):
        line_chart([Series("a", [Point(0, bad)])], x_label="x", y_label="y")
    with pytest.raises(ValueError, match="NaN"):
        bar_chart([Bar("a", 1.0, bad, 2.0)], x_label="x")
    with pytest.raises(ValueError, match="one point"):
        line_chart([Series("a", [])], x_label="x", y_label="y")


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
@example(0.0, 5e-324)
@example(5e-324, 0.0)
def test_ticks_enclose_what_they_are_for(low: float, width: float) -> None:
    ticks = nice_ticks(low, low + width)
    slack = 1e-6 * max(1.0, abs(low), width)
    assert 2 <= len(ticks) <= 12
    assert ticks[0] <= low + slack and ticks[-1] >= low + width - slack
    assert ticks == sorted(ticks)
