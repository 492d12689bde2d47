"""Isotonic regression of a yes or no on a score, and how good such probabilities are.

By pooling adjacent violators (Ayer et al., 1955), for probabilities after Zadrozny and Elkan (KDD 2002).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.errors import InvalidRequest

__all__ = ["Coverage", "Curve", "coverage_table", "expected_error", "fit_curve", "pool_adjacent_violators"]

_LEAST = 32  # fewer positions than this calibrate nothing

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Curve:
    """A step function made continuous: probability by score, linear between knots and level outside of them.

    Attributes:
        scores: increasing (a step's two ends are two knots).
        probabilities: for each score, never falling.
        positions: how many positions it was fitted on.
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    positions: int

    def __call__(self, score: float) -> float:
        return float(np.interp(score, self.scores, self.probabilities))


def fit_curve(scores: NDArray[Any], agreed: NDArray[Any]) -> Curve:
    """Isotonic regression of `agreed` on `scores`.

    Each level is (agreeing + 1) / (positions + 2), the rule of succession, so that a short run of successes at the top
    claims no certainty; levels that this puts out of order are pooled again.

    Args:
        scores: finite numbers, shape (n,).
        agreed: booleans, shape (n,).

    Raises:
        InvalidRequest: fewer than 32 positions, other shapes, or a score that is not finite.
    """
    scores, agreed = _checked(scores, agreed)
    order = np.argsort(scores, kind="stable")
    values, starts = np.unique(scores[order], return_index=True)
    counts = np.diff([*starts, len(scores)]).astype(np.float64)
    hits = np.add.reduceat(agreed[order].astype(np.float64), starts)
    blocks = np.array(pool_adjacent_violators(hits.tolist(), counts.tolist()), np.intp)
    sums, sizes = np.add.reduceat(hits, blocks), np.add.reduceat(counts, blocks)
    merged = np.array(pool_adjacent_violators((sums + 1.0).tolist(), (sizes + 2.0).tolist()), np.intp)
    firsts = blocks[merged]
    lasts = np.append(firsts[1:], len(values)) - 1
    levels = np.add.reduceat(sums + 1.0, merged) / np.add.reduceat(sizes + 2.0, merged)
    knots: dict[float, float] = {}
    for first, last, level in zip(firsts, lasts, levels, strict=True):
        knots[float(values[first])] = knots[float(values[last])] = float(level)
    return Curve(tuple(knots), tuple(knots.values()), len(scores))


def pool_adjacent_violators(sums: Sequence[float], weights: Sequence[float]) -> list[int]:
    """Starts of the blocks of the isotonic fit of sums / weights: neighbours are pooled while a mean falls."""
    starts: list[int] = []
    totals: list[float] = []
    sizes: list[float] = []
    for index, (total, size) in enumerate(zip(sums, weights, strict=True)):
        start = index
        while starts and totals[-1] * size >= total * sizes[-1]:
            start, total, size = starts.pop(), total + totals.pop(), size + sizes.pop()
        starts.append(start)
        totals.append(total)
        sizes.append(size)
    return starts


def expected_error(probabilities: NDArray[Any], agreed: NDArray[Any], bins: int = 15) -> float:
    """Expected calibration error (Guo et al., arXiv 1706.04599, equation 3) over bins of equal width."""
    probabilities, agreed = _checked(probabilities, agreed, least=1)
    place = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    said = np.bincount(place, probabilities, bins)
    seen = np.bincount(place, agreed.astype(np.float64), bins)
    return float(np.abs(said - seen).sum() / len(probabilities))


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a threshold gives: the share of tokens strictly above it, and how many of these agree (nan if none)."""

    threshold: float
    share: float
    agreement: float


def coverage_table(scores: NDArray[Any], agreed: NDArray[Any], thresholds: Sequence[float]) -> list[Coverage]:
    """Share and agreement of what passes each threshold."""
    scores, agreed = _checked(scores, agreed, least=1)
    rows = []
    for threshold in thresholds:
        above = scores > threshold
        agreement = float(agreed[above].mean()) if above.any() else float("nan")
        rows.append(Coverage(threshold, float(above.mean()), agreement))
    return rows


def _checked(scores: NDArray[Any], agreed: NDArray[Any], least: int = _LEAST) -> tuple[Values, Flags]:
    scores, agreed = np.asarray(scores, np.float64), np.asarray(agreed, np.bool_)
    if scores.ndim != 1 or scores.shape != agreed.shape:
        raise InvalidRequest(f"Scores of shape {scores.shape} do not fit flags of shape {agreed.shape}.")
    if len(scores) < least:
        raise InvalidRequest(f"There are {len(scores)} positions; at least {least} are needed.")
    if not np.isfinite(scores).all():
        raise InvalidRequest("A score is not finite.")
    return scores, agreed
