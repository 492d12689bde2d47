"""From outcomes to findings: measures with intervals, and curves of quality against the cloud's share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from updraft.evaluation.curves import area, bootstrap, gain_share, oracle_curve, random_line, scored_curve
from updraft.evaluation.findings import Curve, CurvePoint, Row, TaskReport
from updraft.evaluation.runner import TaskRun
from updraft.evaluation.signals import SIGNALS
from updraft.evaluation.tasks.base import Outcome
from updraft.evaluation.variants import CLOUD, EDGE, Variant

__all__ = ["analyse"]

Floats = NDArray[np.float64]
_GRID: Final = np.linspace(0.0, 1.0, 21)
_RESAMPLES: Final = 400


def analyse(done: TaskRun, *, seed: int = 0) -> TaskReport:
    """Figures of a task that was run."""
    edge, cloud = (_scores(done.outcomes[variant]) for variant in (EDGE, CLOUD))
    policies: dict[str, list[Variant]] = {}
    for variant in done.outcomes:
        if variant not in (EDGE, CLOUD):
            policies.setdefault(variant.policy, []).append(variant)
    report = TaskReport(
        task=done.task.name,
        summary=done.task.summary,
        metric=done.task.metric,
        items=len(done.items),
        skipped=len(done.skipped),
        rows=[_row(done, variant, seed) for variant in _ordered(done)],
        curves=[],
        oracle=_pairs(_GRID, oracle_curve(edge, cloud, _GRID)),
        gap=float(np.mean(cloud - edge)),
        gap_interval=bootstrap(cloud - edge, lambda rows: float(np.mean(rows)), seed, _RESAMPLES),
    )
    if units := _units(done):
        report.token_oracle = _pairs(_GRID, oracle_curve(*units, _GRID))
        report.token_ends = float(units[0].mean()), float(units[1].mean())
    report.curves += [_policy_curve(done, name, variants, seed) for name, variants in policies.items()]
    report.curves += _token_curve(done, seed) + _item_curves(done, edge, cloud, seed)
    return report


def _row(done: TaskRun, variant: Variant, seed: int) -> Row:
    outcomes = done.outcomes[variant]
    count = len(outcomes)

    def total(rows: NDArray[np.int64]) -> float:
        return done.task.totals([outcomes[int(place)] for place in rows])[done.task.metric]

    return Row(
        variant=variant.name,
        mode=variant.mode.value,
        measures=done.task.totals(outcomes),
        interval=bootstrap(np.arange(count), total, seed, _RESAMPLES),
        share=_share(outcomes),
        passes_per_item=sum(outcome.cloud_passes for outcome in outcomes) / count,
        tokens_per_item=sum(outcome.tokens for outcome in outcomes) / count,
        seconds_per_item=sum(outcome.seconds for outcome in outcomes) / count,
        degraded=sum(outcome.degraded for outcome in outcomes),
    )


def _policy_curve(done: TaskRun, name: str, variants: Sequence[Variant], seed: int) -> Curve:
    """A policy that ran: its points, joined to the tiers' own."""
    chosen = [EDGE, *variants, CLOUD]
    given = bool(done.outcomes[EDGE][0].units) and done.task.given
    # One row an item: shares, qualities and weights of all variants, so that a resample keeps items whole.
    shares = np.array([[_item_share(outcome) for outcome in done.outcomes[v]] for v in chosen]).T
    quality = np.array([[_item_quality(outcome, given) for outcome in done.outcomes[v]] for v in chosen]).T
    weights = np.array([[_weight(outcome, given) for outcome in done.outcomes[v]] for v in chosen]).T
    rows = np.stack([shares, quality, weights], axis=-1)

    def curve(part: Floats) -> tuple[Floats, Floats]:
        total = np.maximum(part[:, :, 2].sum(axis=0), 1e-12)
        return (
            (part[:, :, 0] * part[:, :, 2]).sum(axis=0) / total,
            (part[:, :, 1] * part[:, :, 2]).sum(axis=0) / total,
        )

    def above(part: Floats) -> float:
        found, heights = _ascending(*curve(part))
        return area(found, heights) - area(found, random_line(heights[0], heights[-1], found))

    units = _units(done) if given else None
    ends = units or (_scores(done.outcomes[EDGE]), _scores(done.outcomes[CLOUD]))
    gain = _none(gain_share(_ascending(*curve(rows)), *ends))
    found, heights = curve(rows)
    line = random_line(heights[0], heights[-1], np.clip(found, 0.0, 1.0))
    points = tuple(
        CurvePoint(
            variant.name,
            float(found[place]),
            float(heights[place]),
            _point_interval(rows, place, curve, seed),
            float(heights[place] - line[place]),
        )
        for place, variant in enumerate(chosen)
        if variant not in (EDGE, CLOUD)
    )
    level = "tokens" if given else "written"
    interval = None if given else _gain_interval(rows, curve, seed)
    return Curve(name, level, points, above(rows), bootstrap(rows, above, seed, _RESAMPLES), gain, interval)


def _gain_interval(rows: Floats, curve: Callable[[Floats], tuple[Floats, Floats]], seed: int) -> tuple[float, float]:
    def gain(part: Floats) -> float:
        return gain_share(_ascending(*curve(part)), part[:, 0, 1], part[:, -1, 1])

    return bootstrap(rows, gain, seed, _RESAMPLES)


def _point_interval(
    rows: Floats, place: int, curve: Callable[[Floats], tuple[Floats, Floats]], seed: int
) -> tuple[float, float]:
    return bootstrap(rows, lambda part: float(curve(part)[1][place]), seed, _RESAMPLES)


def _heights(part: Floats) -> Floats:
    """Quality over the grid's shares where rows of (score, edge, cloud) with the highest scores go to the cloud."""
    return scored_curve(part[:, 0], part[:, 1], part[:, 2], _GRID)


def _above(part: Floats) -> float:
    """Area of such a curve above random choice."""
    return area(_GRID, _heights(part)) - area(_GRID, random_line(part[:, 1].mean(), part[:, 2].mean(), _GRID))


def _gain(part: Floats) -> float:
    """The part of the oracle's gain that such a curve reaches."""
    return gain_share((_GRID, _heights(part)), part[:, 1], part[:, 2])


def _item_curves(done: TaskRun, edge: Floats, cloud: Floats, seed: int) -> list[Curve]:
    """Whole items sent to the cloud by how unsure the edge was: what `route` could do, from the two tiers' runs."""
    curves = []
    for name in SIGNALS:
        values = [outcome.signals.get(name) for outcome in done.outcomes[EDGE]]
        scores = np.array([value for value in values if value is not None], np.float64)
        if len(scores) != len(edge) or np.ptp(scores) == 0.0:
            continue
        rows = np.stack([scores, edge, cloud], axis=-1)

        line = random_line(edge.mean(), cloud.mean(), _GRID)
        found = _heights(rows)
        points = tuple(
            CurvePoint(f"{share:.0%}", float(share), float(value), (math.nan, math.nan), float(value - base))
            for share, value, base in zip(_GRID[1:-1], found[1:-1], line[1:-1], strict=True)
        )
        curves.append(
            Curve(
                f"item by {name}",
                "items",
                points,
                _above(rows),
                bootstrap(rows, _above, seed, _RESAMPLES),
                _none(_gain(rows)),
                bootstrap(rows, _gain, seed, _RESAMPLES),
            )
        )
    return curves


def _token_curve(done: TaskRun, seed: int) -> list[Curve]:
    """Single tokens of given text sent to the cloud by the edge's entropy at them: asked before, not handed over after.

    Intervals resample items, all tokens of one together.
    """
    pairs = list(zip(done.outcomes[EDGE], done.outcomes[CLOUD], strict=True))
    if not all(len(ours.doubts) == len(ours.units) == len(theirs.units) > 0 for ours, theirs in pairs):
        return []
    rows = [np.array([ours.doubts, ours.units, theirs.units], np.float64).T for ours, theirs in pairs]
    if np.ptp(np.concatenate(rows)[:, 0]) == 0.0:
        return []

    def over(places: Floats, statistic: Callable[[Floats], float]) -> float:
        return statistic(np.concatenate([rows[int(place)] for place in places]))

    whole, places = np.concatenate(rows), np.arange(len(rows))
    found, line = _heights(whole), random_line(whole[:, 1].mean(), whole[:, 2].mean(), _GRID)
    points = tuple(
        CurvePoint(f"{share:.0%}", float(share), float(value), (math.nan, math.nan), float(value - base))
        for share, value, base in zip(_GRID[1:-1], found[1:-1], line[1:-1], strict=True)
    )
    return [
        Curve(
            "token by entropy",
            "tokens",
            points,
            _above(whole),
            bootstrap(places, lambda part: over(part, _above), seed, _RESAMPLES),
            _none(_gain(whole)),
            bootstrap(places, lambda part: over(part, _gain), seed, _RESAMPLES),
        )
    ]


def _ascending(shares: Floats, heights: Floats) -> tuple[Floats, Floats]:
    """Points in the order of their share; those of one share as their mean. The tiers' own stay the ends."""
    inside = np.clip(shares, 0.0, 1.0)
    inside[0], inside[-1] = 0.0, 1.0
    found, group, counts = np.unique(inside, return_inverse=True, return_counts=True)
    means = np.bincount(group, heights) / counts
    means[0], means[-1] = heights[0], heights[-1]
    return found, means


def _units(done: TaskRun) -> tuple[Floats, Floats] | None:
    """Qualities of all tokens of given text, by edge and by cloud."""
    pair = [
        np.array([unit for outcome in done.outcomes[variant] for unit in outcome.units], np.float64)
        for variant in (EDGE, CLOUD)
    ]
    return (pair[0], pair[1]) if len(pair[0]) and len(pair[0]) == len(pair[1]) else None


def _item_share(outcome: Outcome) -> float:
    return outcome.share


def _item_quality(outcome: Outcome, given: bool) -> float:
    return sum(outcome.units) / max(1, len(outcome.units)) if given else outcome.score


def _weight(outcome: Outcome, given: bool) -> float:
    """Tokens where tokens are judged, else every item alike."""
    return float(len(outcome.units)) if given else 1.0


def _share(outcomes: Sequence[Outcome]) -> float:
    tokens = sum(outcome.tokens for outcome in outcomes)
    return sum(outcome.cloud_tokens for outcome in outcomes) / tokens if tokens else 0.0


def _scores(outcomes: Sequence[Outcome]) -> Floats:
    return np.array([outcome.score for outcome in outcomes], np.float64)


def _ordered(done: TaskRun) -> list[Variant]:
    return [EDGE, *(variant for variant in done.outcomes if variant not in (EDGE, CLOUD)), CLOUD]


def _pairs(shares: Floats, heights: Floats) -> list[tuple[float, float]]:
    return [(float(share), float(height)) for share, height in zip(shares, heights, strict=True)]


def _none(value: float) -> float | None:
    return None if math.isnan(value) else value
