"""The report of a calibration: quality against share and time, honest baselines, and what is certified."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from updraft.calibration.fit import certified
from updraft.calibration.goals import parse_goal
from updraft.calibration.grid import KNOBS
from updraft.calibration.job import Calibration, Outcome
from updraft.calibration.results import Floats
from updraft.calibration.route import alignment_words
from updraft.errors import MissingExtra
from updraft.evaluation.charts import Point, Series, line_chart, number, percent
from updraft.evaluation.curves import area, oracle_curve, random_line
from updraft.evaluation.page import Markup, facts, figure, note, page, paragraph, section, table, tiles
from updraft.modes import Mode
from updraft.profiles import CurvePoint, Profile, some_points

__all__ = ["draw_png", "report_page"]

_SHARES = np.linspace(0.0, 1.0, 41)
_PNG_COLOURS = ("#2563eb", "#d97706", "#16a34a", "#db2777", "#7c3aed", "#0891b2", "#b91c1c", "#6b7280")  # the page's


def report_page(outcome: Outcome, task: Calibration) -> str:
    """A whole HTML document."""
    profile = outcome.profile
    chosen = profile.curve[profile.chosen]
    return page(
        f"Calibration of {profile.mode} for {profile.edge.name} and {profile.cloud.name}",
        [
            tiles(
                [
                    (KNOBS[profile.mode].name, number(chosen.value), f"for {profile.goal}"),
                    ("agreement with the cloud", percent(1 - _loss(profile, chosen)), _kind(profile)),
                    ("share of the cloud", percent(chosen.share), "of an answer's tokens, on average"),
                    ("time per token", f"{chosen.token_ms:.1f} ms", _link(profile)),
                    ("cloud passes per token", number(chosen.passes_per_token), f"{profile.prompts} prompts"),
                ]
            ),
            note(profile.guarantee, warning=profile.guarantee.startswith("None")),
            section("What it costs, and what it brings", _trade_offs(outcome), paragraph(_verdict(outcome))),
            *_certificates(outcome, task),
            section("Every setting", _settings_table(profile)),
            section("What was measured", facts(_facts(profile))),
        ],
        subtitle=f"Goal {profile.goal}; {profile.prompts} prompts, greedy, up to {profile.max_tokens} tokens.",
    )


def draw_png(outcome: Outcome, path: Path) -> None:
    """Both trade-offs as a picture. Raises MissingExtra without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra(
            "Pictures need matplotlib.", remedy='Install it with `pip install "updraft-llm[dev]"`.'
        ) from error
    picture = Figure(figsize=(11, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(picture)
    for axes, series, label in zip(
        picture.subplots(1, 2),
        (_by_share(outcome), _by_time(outcome.profile)),
        ("cloud share", "ms per token"),
        strict=True,
    ):
        for one in series:
            _plot(axes, one)
        axes.set_xlabel(label)
        axes.set_ylabel("agreement with the cloud's text")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    picture.suptitle(f"{outcome.profile.mode}: {outcome.profile.goal}", fontsize=11)
    picture.savefig(path)


def _plot(axes: Any, one: Series) -> None:
    style = {"dashed": "--", "line": "-o", "band": "-o", "dots": "o", "star": "*"}[one.kind]
    size = {"star": 15.0, "dashed": 0.0}.get(one.kind, 5.0)
    colour = _PNG_COLOURS[(one.colour or 1) - 1]
    axes.plot([p.x for p in one.points], [p.y for p in one.points], style, ms=size, label=one.name, color=colour)


def _trade_offs(outcome: Outcome) -> Markup:
    shares = line_chart(
        _by_share(outcome),
        x_label="tokens written by the cloud",
        y_label="agreement",
        x_format=percent,
        y_format=percent,
        x_range=(0.0, 1.0),
    )
    times = line_chart(_by_time(outcome.profile), x_label="ms per token", y_label="agreement", y_format=percent)
    return figure(
        (
            shares,
            "Quality against the cloud's share",
            "Bands are 95 % bootstrap intervals over prompts. Random escalation gives whole prompts away by lot; "
            "the oracle gives it those that the edge answers worst.",
        ),
        (times, "Quality against time", f"Time per token from the request on; {_link(outcome.profile)}."),
    )


def _by_share(outcome: Outcome) -> list[Series]:
    profile = outcome.profile
    edge, cloud = _baselines(profile)
    quality = _edge_quality(outcome)
    random, oracle = _alternatives(quality, _SHARES)
    return [
        Series(f"mode {profile.mode}", [_point(profile, p, p.share) for p in profile.curve], "band", 1),
        Series("random escalation", _points(random), "dashed", 8),
        Series("oracle", _points(oracle), "dashed", 3),
        Series("edge only", [_point(profile, edge, edge.share)], "dots", 2),
        Series("cloud only", [_point(profile, cloud, 1.0)], "dots", 5),
        _star(profile, profile.curve[profile.chosen].share),
    ]


def _by_time(profile: Profile) -> list[Series]:
    edge, cloud = _baselines(profile)
    ordered = sorted(profile.curve, key=lambda point: point.token_ms)
    return [
        Series(f"mode {profile.mode}", [_point(profile, p, p.token_ms) for p in ordered], "line", 1),
        Series("edge only", [_point(profile, edge, edge.token_ms)], "dots", 2),
        Series("cloud only", [_point(profile, cloud, cloud.token_ms)], "dots", 5),
        _star(profile, profile.curve[profile.chosen].token_ms),
    ]


def _star(profile: Profile, x: float) -> Series:
    chosen = profile.curve[profile.chosen]
    label = f"{KNOBS[profile.mode].name} = {number(chosen.value)}, for {profile.goal}"
    return Series("chosen", [Point(x, 1 - _loss(profile, chosen), label)], "star", 4)


def _certificates(outcome: Outcome, task: Calibration) -> list[Markup]:
    """What each setting alone would be certified for; nothing where nothing can be promised."""
    goal = task.goal
    if not goal.bounded:
        return []
    values = outcome.table.metric(goal.metric)
    knobs = _knobs(outcome)
    means = [Point(knob, float(mean)) for knob, mean in zip(knobs, values.mean(axis=0), strict=True)]
    exact = [goal.on_quality and point.exact for point in outcome.points]
    bounds = [
        Point(knob, 0.0 if exact[place] else certified(goal, values[:, place])) for place, knob in enumerate(knobs)
    ]
    ends = [Point(min(knobs), goal.level), Point(max(knobs), goal.level)]
    chart = line_chart(
        [
            Series("measured mean", means, "line", 1),
            Series("certified", bounds, "line", 4),
            Series("goal", ends, "dashed", 8),
            Series("chosen", [bounds[outcome.fit.chosen]], "star", 4),
        ],
        x_label=KNOBS[outcome.profile.mode].name,
        y_label=goal.metric,
        y_format=percent,
        width=900,
        height=330,
    )
    caption = (
        "The certified level is the least goal that the setting would meet alone on these prompts; the gap to the mean "
        "is the price of few prompts."
    )
    words = [paragraph(alignment_words(outcome.table, goal.level))] if outcome.profile.mode is Mode.ROUTE else []
    return [section("What the prompts can prove", *words, figure((chart, f"{goal.metric} against the knob", caption)))]


def _knobs(outcome: Outcome) -> list[float]:
    """Values of the knob; the route's last one stands for infinity and is drawn a little beyond the others."""
    knobs = [point.value for point in outcome.profile.curve]
    if outcome.profile.mode is Mode.ROUTE and len(knobs) > 1:
        knobs[-1] = knobs[-2] + 0.05 * ((knobs[-2] - knobs[0]) or 1.0)
    return knobs


def _verdict(outcome: Outcome) -> str:
    """The chosen setting, and the whole curve, against random escalation, in words."""
    profile = outcome.profile
    quality = _edge_quality(outcome)
    chosen = profile.curve[profile.chosen]
    lot, best = _alternatives(quality, np.array([chosen.share]))
    words = (
        f"At its share of {percent(chosen.share)} the chosen setting agrees to {percent(1 - _loss(profile, chosen))}; "
        f"whole prompts given away by lot would to {percent(lot[0])}, by the oracle to {percent(best[0])}."
    )
    curve = sorted({round(p.share, 9): p for p in profile.curve}.values(), key=lambda p: p.share)
    if len(curve) < 2:
        return words
    shares = np.array([p.share for p in curve])
    lots, bests = (area(shares, heights) for heights in _alternatives(quality, shares))
    measured = area(shares, [1 - _loss(profile, p) for p in curve])
    return (
        f"{words} Over all measured shares, {percent(shares[0])} to {percent(shares[-1])}, the mode's mean agreement "
        f"is {percent(measured)}, {'above' if measured > lots else 'not above'} the lot's {percent(lots)}; the "
        f"oracle's is {percent(bests)}."
    )


def _alternatives(quality: Floats, shares: Floats) -> tuple[Floats, Floats]:
    """Agreement of random escalation of whole prompts, and of the oracle's, at these shares."""
    return random_line(quality.mean(), 1.0, shares), oracle_curve(quality, np.ones_like(quality), shares)


def _settings_table(profile: Profile) -> Markup:
    edge, cloud = _baselines(profile)
    priced = any(point.cost for point in (*profile.curve, edge, cloud))
    places = some_points(profile)
    named = [(number(profile.curve[place].value), profile.curve[place]) for place in places]
    rows = [_row(name, point, priced) for name, point in [*named, ("edge only", edge), ("cloud only", cloud)]]
    columns = [
        KNOBS[profile.mode].name,
        "agreement",
        "95 % interval",
        "tokens agree",
        "same text",
        "cloud share",
        "ms/token",
    ]
    columns += ["passes/token", "bytes/token", *(["cost/1000"] if priced else [])]
    return table(columns, rows, chosen=places.index(profile.chosen))


def _row(name: str, point: CurvePoint, priced: bool) -> list[str]:
    return [
        name,
        percent(1 - point.disagreement),
        _interval(point),
        percent(1 - point.rejected),
        percent(1 - point.mismatch),
        percent(point.share),
        f"{point.token_ms:.1f}",
        f"{point.passes_per_token:.3f}",
        f"{point.bytes_per_token:.1f}",
        *([number(point.cost)] if priced else []),
    ]


def _facts(profile: Profile) -> list[tuple[str, str]]:
    return [
        ("edge model", f"{profile.edge.name} [{profile.edge.fingerprint[:16]}]"),
        ("cloud model", f"{profile.cloud.name} [{profile.cloud.fingerprint[:16]}]"),
        ("settings", profile.model_dump_json(include={"mode", "settings"})),
        ("link", _link(profile)),
        ("made by", f"Updraft {profile.version}, {profile.created}"),
        ("agreement", "1 less the token edit distance to the cloud's greedy text over the longer text's length"),
        ("tokens agree", "tokens that are the cloud's greedy choice after the text before them, whoever wrote that"),
    ]


def _edge_quality(outcome: Outcome) -> Floats:
    by_place = _by_place(outcome.profile)
    return 1.0 - np.array([c.rejected if by_place else c.disagreement for c in outcome.table.edge], np.float64)


def _by_place(profile: Profile) -> bool:
    """The report shows agreement token by token, where the goal is about that, else of whole texts."""
    return parse_goal(profile.goal).metric == "rejected"


def _loss(profile: Profile, point: CurvePoint) -> float:
    return point.rejected if _by_place(profile) else point.disagreement


def _kind(profile: Profile) -> str:
    return "of tokens, after the same text" if _by_place(profile) else "of texts, by edit distance"


def _baselines(profile: Profile) -> tuple[CurvePoint, CurvePoint]:
    if profile.edge_only is None or profile.cloud_only is None:
        raise ValueError("the profile has no baselines")
    return profile.edge_only, profile.cloud_only


def _point(profile: Profile, point: CurvePoint, x: float) -> Point:
    knob = KNOBS[profile.mode].name
    label = f"{knob} = {number(point.value)}" if point in profile.curve else ""
    if _by_place(profile):
        return Point(x, 1 - point.rejected, label)
    return Point(x, 1 - point.disagreement, label, 1 - point.high, 1 - point.low)


def _points(heights: Sequence[float] | Floats) -> list[Point]:
    return [Point(float(x), float(y)) for x, y in zip(_SHARES, heights, strict=True)]


def _interval(point: CurvePoint) -> str:
    return f"{percent(1 - point.high)} to {percent(1 - point.low)}"


def _link(profile: Profile) -> str:
    if profile.round_trip_ms is None:
        return "over the link as it is"
    return f"over an emulated round trip of {profile.round_trip_ms:g} ms"
