"""The report of an evaluation as one HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from updraft.evaluation.charts import Point, Series, line_chart, number, percent
from updraft.evaluation.findings import FEW_ITEMS, Curve, Row, TaskReport, verdict
from updraft.evaluation.job import Findings
from updraft.evaluation.page import Markup, facts, figure, note, page, paragraph, section, table, tiles

__all__ = ["eval_page", "figures_of"]

_SHOWN_ITEM_CURVES = 2


def eval_page(found: Findings) -> str:
    """An HTML document: one section a task, and what the figures mean."""
    parts = [_summary(found), *(_task_section(report) for report in found.reports), _about(found)]
    items = sum(report.items for report in found.reports)
    return page("Quality of a pair", parts, subtitle=f"{found.pair}; {found.sampling}; {items} items")


def figures_of(row: Row) -> str:
    """The main measure with its interval."""
    main = next(iter(row.measures.values()))
    return f"{_short(main)} [{_short(row.interval[0])}, {_short(row.interval[1])}]"


def _summary(found: Findings) -> Markup:
    rows = []
    for report in found.reports:
        best = max(report.curves, key=lambda curve: curve.area_above_random, default=None)
        rows.append(
            (
                report.task,
                report.metric,
                report.items,
                figures_of(report.rows[0]),
                figures_of(report.rows[-1]),
                f"{_short(report.gap)} [{_short(report.gap_interval[0])}, {_short(report.gap_interval[1])}]",
                "none" if best is None else f"{best.policy} ({_short(best.area_above_random)})",
            )
        )
    columns = ("task", "measure", "items", "edge only", "cloud only", "gap, paired", "largest area above random")
    return section(
        "In short",
        table(columns, rows, left=(0, 1, 6)),
        paragraph("In brackets: 95 % intervals of a bootstrap over items. The gap compares the tiers item by item."),
    )


def _task_section(report: TaskReport) -> Markup:
    parts: list[Markup] = [paragraph(report.summary)]
    if report.skipped:
        parts.append(note(f"Left out, because they did not fit the context: {report.skipped} items.", warning=True))
    if report.items < FEW_ITEMS:
        parts.append(note(f"Only {report.items} items: the intervals are too narrow to tell by.", warning=True))
    if report.gap_interval[0] <= 0 <= report.gap_interval[1]:
        text = "The tiers do not differ by more than chance on these items: no policy can be told from another here."
        parts.append(note(text, warning=True))
    parts.append(_task_tiles(report))
    parts.append(_rows_table(report))
    if report.curves:
        parts.append(_plots(report))
        parts.append(_curves_table(report.curves))
        parts += [note(verdict(curve), warning=curve.area_interval[0] <= 0) for curve in _told(report.curves)]
    return section(report.task, *parts)


def _task_tiles(report: TaskReport) -> Markup:
    edge, cloud = report.rows[0], report.rows[-1]
    return tiles(
        [
            ("edge only", _short(next(iter(edge.measures.values()))), report.metric),
            ("cloud only", _short(next(iter(cloud.measures.values()))), report.metric),
            ("oracle at 20 %", _short(_at(report.oracle, 0.2)), "the best items sent to the cloud"),
            ("seconds an item", f"{edge.seconds_per_item:.2g} / {cloud.seconds_per_item:.2g}", "edge / cloud"),
        ]
    )


def _rows_table(report: TaskReport) -> Markup:
    names = list(dict.fromkeys(name for row in report.rows for name in row.measures))
    columns = ["variant", f"{names[0]} and interval", *names[1:], "cloud share", "passes/item", "tokens/item", "s/item"]
    rows = [
        (
            row.variant + (f" ({row.degraded} degraded)" if row.degraded else ""),
            figures_of(row),
            *(_short(row.measures[name]) if name in row.measures else "" for name in names[1:]),
            percent(row.share),
            number(row.passes_per_item),
            number(row.tokens_per_item),
            f"{row.seconds_per_item:.3g}",
        )
        for row in report.rows
    ]
    return table(columns, rows)


def _plots(report: TaskReport) -> Markup:
    charts = []
    ran = [curve for curve in report.curves if curve.level == "tokens"]
    if ran and report.token_ends and report.token_oracle:
        charts.append((_chart(ran, report.token_ends, report.token_oracle, report.metric), *_CAPTIONS["tokens"]))
    others = [curve for curve in report.curves if curve.level == "written"]
    items = sorted(
        (curve for curve in report.curves if curve.level == "items"), key=lambda curve: -curve.area_above_random
    )
    ends = report.oracle[0][1], _end(report)
    if others:
        charts.append((_chart(others, ends, report.oracle, report.metric), *_CAPTIONS["written"]))
    if items:
        chart = _chart(items[:_SHOWN_ITEM_CURVES], ends, report.oracle, report.metric)
        charts.append((chart, *_CAPTIONS["items"]))
    return figure(*charts)


_CAPTIONS = {
    "tokens": (
        "Tokens of given text",
        "Which tier judges each token. The oracle sends the tokens that gain most, one by one.",
    ),
    "written": (
        "Policies that wrote answers",
        "Points are runs. Random sends whole items; the oracle too, so a policy that mixes within answers may pass it.",
    ),
    "items": ("Whole items by a score of the edge's answer", "From the two tiers' runs: what a route could reach."),
}


def _chart(
    curves: Sequence[Curve], ends: tuple[float, float], oracle: Sequence[tuple[float, float]], metric: str
) -> Markup:
    """Curves between random escalation and the oracle."""
    series = [
        Series("oracle", [Point(share, height, f"oracle at {share:.0%}") for share, height in oracle], "dashed", 8),
        Series("random", [Point(0, ends[0], "edge only"), Point(1, ends[1], "cloud only")], "dashed", 7),
    ]
    for place, curve in enumerate(curves):
        dots = [
            Point(point.share, point.quality, point.name, *_limits(point.interval))
            for point in sorted(curve.points, key=lambda point: point.share)
        ]
        series.append(Series(curve.policy, dots, "line", place % 6 + 1))
    return line_chart(
        [one for one in series if one.points],
        x_label="share of the cloud",
        y_label=metric,
        x_format=percent,
        x_range=(0.0, 1.0),
    )


def _curves_table(curves: Sequence[Curve]) -> Markup:
    rows = [
        (
            curve.policy,
            curve.level,
            f"{_short(curve.area_above_random)} [{_short(curve.area_interval[0])}, {_short(curve.area_interval[1])}]",
            "no gain to reach" if curve.gain is None else percent(curve.gain) + _gain_limits(curve),
            "yes" if curve.area_interval[0] > 0 else "no",
        )
        for curve in curves
    ]
    columns = ("policy", "level", "area above random", "of the oracle's gain", "beats random")
    return table(columns, rows, left=(0, 1))


def _gain_limits(curve: Curve) -> str:
    if curve.gain_interval is None or math.isnan(curve.gain_interval[0]):
        return ""
    return f" [{percent(curve.gain_interval[0])}, {percent(curve.gain_interval[1])}]"


def _told(curves: Sequence[Curve]) -> list[Curve]:
    """Policies that ran, and the best score of whole items."""
    ran = [curve for curve in curves if curve.level != "items"]
    items = [curve for curve in curves if curve.level == "items"]
    return ran + ([max(items, key=lambda curve: curve.area_above_random)] if items else [])


def _about(found: Findings) -> Markup:
    return section(
        "How to read this",
        paragraph(
            "Random is the straight line between edge only and cloud only: that share of the items, or tokens, goes to "
            "the cloud by chance. The oracle knows where the cloud is better and escalates there first. The area above "
            "random is the mean height over all shares between the tiers' own points, and the part of the oracle's "
            "gain relates it to the oracle's area over the same shares."
        ),
        paragraph(
            "Times are of this machine, with both tiers on it, and no link between them but loopback. Measured shares "
            "count tokens that the cloud wrote or judged; drafts that it only verified count as the edge's. "
            "On given text a policy is followed through the scores that both tiers gave once, and its time is that of "
            "deciding alone."
        ),
        facts([*found.identity.items(), ("seconds", f"{found.seconds:.0f}"), ("results reused", str(found.resumed))]),
    )


def _end(report: TaskReport) -> float:
    """The cloud's mean score, over items alike."""
    return report.oracle[0][1] + report.gap


def _at(curve: Sequence[tuple[float, float]], share: float) -> float:
    return min(curve, key=lambda pair: abs(pair[0] - share))[1]


def _limits(interval: tuple[float, float]) -> tuple[float | None, float | None]:
    low, high = interval
    return (None, None) if math.isnan(low) or math.isnan(high) else (low, high)


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"
