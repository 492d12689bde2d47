"""Charts as inline SVG, in the colours of `page`: lines with bands and marks, and bars with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from updraft.evaluation.page import Markup, escape

__all__ = ["Bar", "Point", "Series", "bar_chart", "line_chart", "nice_ticks", "number", "percent"]

_COLOURS: Final = 8
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 16.0, 14.0, 46.0
_LEGEND_ROW: Final = 18.0
_LETTER: Final = 7.0  # mean width of a letter of the legend, in the units of the picture

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a chart; `low` and `high` bound its interval, `label` is the first line of its tip."""

    x: float
    y: float
    label: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Points under one name.

    Attributes:
        kind: line: joined and dotted; dashed: joined, for baselines; band: joined, with its intervals as a band;
            dots: marks only; star: marks that stand out.
        colour: 1 to 8 of the page's colours; by its place when None.
    """

    name: str
    points: Sequence[Point]
    kind: Literal["line", "dashed", "band", "dots", "star"] = "line"
    colour: int | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    value: float
    low: float | None = None
    high: float | None = None
    colour: int = 1


def number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def percent(value: float) -> str:
    return f"{value:.1%}".replace(".0%", "%")


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from at most `low` to at least `high`: about so many steps of 1, 2, 2.5 or 5 times 10**k."""
    if not high - low > 1e-9 * max(1.0, abs(low)):  # one point, as far as a picture can tell
        high = low + (abs(low) if abs(low) > 1e-9 else 1.0)
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_format: Format = number,
    y_format: Format = number,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    width: int = 560,
    height: int = 380,
) -> Markup:
    """Series over two axes, with a legend and a tip at every point.

    Raises:
        ValueError: there is no point, or a value is not finite.
    """
    points = [point for one in series for point in one.points]
    _check([value for point in points for value in (point.x, point.y, point.low, point.high)])
    legend, legend_height = _legend([(one.name, _colour(one, place)) for place, one in enumerate(series)], width)
    frame = _Frame(
        nice_ticks(*(x_range or _span(point.x for point in points))),
        nice_ticks(*(y_range or _span(v for p in points for v in (p.y, p.low, p.high) if v is not None))),
        width,
        height,
        _TOP + legend_height,
    )
    parts = [legend, *frame.axes(x_label, y_label, x_format, y_format)]
    for place, one in enumerate(series):
        parts += _drawn(one, _colour(one, place), frame, x_label, y_label, x_format, y_format)
    return _svg(parts, width, height, f"{y_label} over {x_label}")


def bar_chart(
    bars: Sequence[Bar], *, x_label: str, x_format: Format = number, width: int = 560, row: int = 30
) -> Markup:
    """Horizontal bars from 0, with whiskers where an interval is known.

    Raises:
        ValueError: there is no bar, or a value is not finite.
    """
    _check([value for bar in bars for value in (bar.value, bar.low, bar.high)])
    ends = [value for bar in bars for value in (bar.value, bar.low, bar.high) if value is not None]
    ticks = nice_ticks(min(0.0, *ends), max(0.0, *ends))
    left = 24.0 + _LETTER * max(len(bar.label) for bar in bars)
    height = int(_TOP + _BOTTOM + row * len(bars))

    def across(value: float) -> float:
        return left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (width - left - 56)

    base = height - _BOTTOM
    parts = [
        f'<line class="grid" x1="{across(tick):.1f}" x2="{across(tick):.1f}" y1="{_TOP}" y2="{base}"/>'
        f'<text x="{across(tick):.1f}" y="{base + 17}" text-anchor="middle">{escape(x_format(tick))}</text>'
        for tick in ticks
    ]
    parts.append(f'<text x="{(left + width) / 2:.1f}" y="{height - 8}" text-anchor="middle">{escape(x_label)}</text>')
    for place, bar in enumerate(bars):
        middle = _TOP + row * (place + 0.5)
        start, end = sorted((across(0.0), across(bar.value)))
        tip = f"{bar.label}\n{x_label}: {x_format(bar.value)}{_interval(bar.low, bar.high, x_format)}"
        parts.append(
            f'<text class="strong" x="{left - 10:.1f}" y="{middle + 4:.1f}" text-anchor="end">'
            f"{escape(bar.label)}</text>"
            f'<rect x="{start:.1f}" y="{middle - row * 0.3:.1f}" width="{max(1.0, end - start):.1f}" '
            f'height="{row * 0.6:.1f}" rx="3" fill="var(--s{bar.colour})" data-tip="{_tip(tip)}"/>'
        )
        far = end
        if bar.low is not None and bar.high is not None:
            far = max(far, across(bar.high))
            parts.append(_whisker(across(bar.low), middle, across(bar.high), middle, "var(--ink)"))
        parts.append(f'<text x="{far + 8:.1f}" y="{middle + 4:.1f}">{escape(x_format(bar.value))}</text>')
    return _svg(parts, width, height, f"bars of {x_label}")


class _Frame:
    """Where values lie in the picture, and the axes around them."""

    def __init__(self, xs: list[float], ys: list[float], width: int, height: int, top: float) -> None:
        self.xs, self.ys = xs, ys
        self._top, self._right, self._base = top, width - _RIGHT, height - _BOTTOM

    def x(self, value: float) -> float:
        return _LEFT + (value - self.xs[0]) / (self.xs[-1] - self.xs[0]) * (self._right - _LEFT)

    def y(self, value: float) -> float:
        return self._base - (value - self.ys[0]) / (self.ys[-1] - self.ys[0]) * (self._base - self._top)

    def axes(self, x_label: str, y_label: str, x_format: Format, y_format: Format) -> list[str]:
        parts = []
        for tick in self.xs:
            parts.append(f'<line class="grid" x1="{self.x(tick):.1f}" x2="{self.x(tick):.1f}" ')
            parts.append(f'y1="{self._top:.1f}" y2="{self._base}"/>')
            parts.append(f'<text x="{self.x(tick):.1f}" y="{self._base + 17}" text-anchor="middle">')
            parts.append(f"{escape(x_format(tick))}</text>")
        for tick in self.ys:
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{self._right}" ')
            parts.append(f'y1="{self.y(tick):.1f}" y2="{self.y(tick):.1f}"/>')
            parts.append(f'<text x="{_LEFT - 8}" y="{self.y(tick) + 4:.1f}" text-anchor="end">')
            parts.append(f"{escape(y_format(tick))}</text>")
        middle = (self._top + self._base) / 2
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{self._right}" y1="{self._base}" y2="{self._base}"/>')
        parts.append(f'<text x="{(_LEFT + self._right) / 2:.1f}" y="{self._base + 36}" text-anchor="middle">')
        parts.append(f'{escape(x_label)}</text><text transform="translate(14 {middle:.1f}) rotate(-90)" ')
        parts.append(f'text-anchor="middle">{escape(y_label)}</text>')
        return ["".join(parts)]


def _drawn(
    one: Series, colour: int, frame: _Frame, x_label: str, y_label: str, x_format: Format, y_format: Format
) -> list[str]:
    paint = f"var(--s{colour})"
    places = [(frame.x(point.x), frame.y(point.y)) for point in one.points]
    seen = ' opacity="0"' if one.kind == "dashed" and len(places) > 1 else ""  # its tips are there all the same
    parts = []
    bounds = [(frame.x(p.x), p.low, p.high) for p in one.points if p.low is not None and p.high is not None]
    if one.kind == "band" and len(bounds) > 1:
        edge = [(x, frame.y(high)) for x, _, high in bounds] + [(x, frame.y(low)) for x, low, _ in reversed(bounds)]
        parts.append(f'<polygon points="{_path(edge)}" fill="{paint}" opacity="0.14"/>')
    elif one.kind != "band":
        parts += [_whisker(x, frame.y(low), x, frame.y(high), paint) for x, low, high in bounds]
    if one.kind in ("line", "dashed", "band") and len(places) > 1:
        dash = ' stroke-dasharray="5 4"' if one.kind == "dashed" else ""
        parts.append(f'<polyline points="{_path(places)}" fill="none" stroke="{paint}" stroke-width="2"{dash}/>')
    for point, (x, y) in zip(one.points, places, strict=True):
        head = [part for part in (one.name, point.label) if part]
        tip = "\n".join([*head, f"{x_label}: {x_format(point.x)}", f"{y_label}: {y_format(point.y)}"])
        tip += _interval(point.low, point.high, y_format)
        shape = (
            f'<polygon points="{_star(x, y)}" fill="{paint}" stroke="var(--card)" stroke-width="1.5"'
            if one.kind == "star"
            else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{paint}" stroke="var(--card)" stroke-width="1.5"{seen}'
        )
        parts.append(f'{shape} data-tip="{_tip(tip)}"/>')
    return parts


def _legend(entries: list[tuple[str, int]], width: int) -> tuple[str, float]:
    """Names with their colours, in as many rows as they need, and the height of these."""
    parts, x, row = [], _LEFT, 0
    for name, colour in entries:
        wide = 26 + _LETTER * len(name)
        if x + wide > width and x > _LEFT:
            x, row = _LEFT, row + 1
        y = _TOP + row * _LEGEND_ROW
        parts.append(
            f'<rect x="{x:.1f}" y="{y - 8:.1f}" width="10" height="10" rx="2.5" fill="var(--s{colour})"/>'
            f'<text x="{x + 15:.1f}" y="{y + 1:.1f}">{escape(name)}</text>'
        )
        x += wide
    return "".join(parts), (row + 1) * _LEGEND_ROW


def _tip(text: str) -> str:
    """Text in an attribute that keeps its line breaks in XML, too."""
    return escape(text).replace("\n", "&#10;")


def _colour(one: Series, place: int) -> int:
    return one.colour if one.colour is not None else place % _COLOURS + 1


def _svg(parts: Sequence[str], width: int, height: int, title: str) -> Markup:
    inside = "\n".join(parts)
    return Markup(f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">\n{inside}\n</svg>')


def _path(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _star(x: float, y: float, radius: float = 10.0) -> str:
    corners = ((radius if turn % 2 == 0 else radius * 0.45, math.pi * (turn / 5 - 0.5)) for turn in range(10))
    return _path((x + r * math.cos(angle), y + r * math.sin(angle)) for r, angle in corners)


def _whisker(x1: float, y1: float, x2: float, y2: float, paint: str) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{paint}" stroke-width="1.5" '
        'opacity="0.6"/>'
    )


def _interval(low: float | None, high: float | None, shown: Format) -> str:
    return "" if low is None or high is None else f" ({shown(low)} to {shown(high)})"


def _span(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    return min(found), max(found)


def _check(values: Sequence[float | None]) -> None:
    if not values:
        raise ValueError("a chart needs at least one point")
    if not all(value is None or math.isfinite(value) for value in values):
        raise ValueError("a chart cannot show NaN or infinity")
