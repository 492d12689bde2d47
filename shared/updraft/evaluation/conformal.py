"""Thresholds with finite-sample, distribution-free promises, from losses measured at every point of a grid.

Losses are an array of shape (prompts, points), each from 0 to 1. The points go from the most cautious setting (most of
the cloud, least loss) to the boldest. Prompts must be exchangeable with those that the promise is about.

- `risk_control`: conformal risk control (Angelopoulos, Bates, Fisch, Lei, Schuster, arXiv 2208.02814, eq. 4): the
  expected loss of the next prompt is at most alpha, the draw of the calibration prompts included.
- `learn_then_test`: fixed-sequence testing (Angelopoulos, Bates, Candes, Jordan, Lei, arXiv 2110.01052, section 3.2):
  with probability 1 - delta over the calibration prompts the expected loss is at most epsilon. A point is tested by
  its exact binomial tail where losses are 0 or 1, else by betting (Waudby-Smith, Ramdas, arXiv 2010.09686), whose
  test of a mean over finitely many prompts is theirs for sampling without replacement (arXiv 2006.04347).
- `conformal_alignment`: which answers of a batch may be trusted (Gui, Jin, Ren, arXiv 2405.10301, eq. 3.2), as edge-
  cloud cascades use it (Huang, Park, Paoletti, Simeone, arXiv 2510.17543): of those selected, the expected share that
  is not aligned with the cloud is at most the level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "benjamini_hochberg",
    "betting_rejects",
    "binomial_tail",
    "conformal_alignment",
    "conformal_p_values",
    "hoeffding_bentkus",
    "learn_then_test",
    "monotone",
    "plug_in",
    "rejects",
    "risk_control",
]

Floats = NDArray[np.float64]


def monotone(losses: ArrayLike) -> Floats:
    """The running maximum from the cautious end, shape (prompts, points): what risk control needs is never below it.

    A promise about the larger, monotone loss holds for the measured one.

    Raises:
        ValueError: losses are not a table of finite numbers from 0 to 1.
    """
    return np.maximum.accumulate(_table(losses), axis=1)


def risk_control(losses: ArrayLike, alpha: float, *, bound: float = 1.0) -> int | None:
    """The boldest point whose expected loss is at most `alpha`: n/(n+1) mean + bound/(n+1) <= alpha.

    None where no point qualifies; fewer than bound/alpha - 1 prompts never suffice. `bound` is the largest loss there
    can be.
    """
    table = monotone(losses)
    count = len(table)
    inflated = (table.sum(axis=0) + bound) / (count + 1)
    return _last(inflated <= alpha + 1e-12)


def learn_then_test(
    losses: ArrayLike, epsilon: float, delta: float, *, exact: Sequence[bool] | None = None, horizon: int | None = None
) -> int | None:
    """The boldest point that fixed-sequence testing reaches at level `delta`; None where the first point fails.

    Args:
        exact: points whose loss is 0 by construction; they need no test.
        horizon: the promise is about the mean over that many further prompts instead of the expectation. Each point's
            test is then exact; their sequence is only as good as the points' order.
    """
    table = _table(losses)
    passed: int | None = None
    for point in range(table.shape[1]):
        sure = exact is not None and exact[point]
        if not sure and not rejects(table[:, point], epsilon, delta, horizon=horizon):
            break
        passed = point
    return passed


def plug_in(losses: ArrayLike, level: float) -> int | None:
    """The baseline without a promise: the boldest point whose measured mean is at most `level`."""
    return _last(monotone(losses).mean(axis=0) <= level + 1e-12)


def rejects(values: ArrayLike, epsilon: float, delta: float, *, horizon: int | None = None) -> bool:
    """Whether "the mean loss is above epsilon" is rejected at level delta."""
    losses = _table(np.atleast_2d(np.asarray(values, np.float64)).T)[:, 0]
    if horizon is None and np.isin(losses, (0.0, 1.0)).all():
        return binomial_tail(int(losses.sum()), losses.size, epsilon) <= delta
    return betting_rejects(losses, epsilon, delta, horizon=horizon)


def betting_rejects(losses: Floats, epsilon: float, delta: float, *, horizon: int | None = None) -> bool:
    """A bettor against "the mean is above epsilon" multiplies its capital by 1/delta (Ville's inequality).

    The bets are predictable and depend on earlier losses only, as in arXiv 2101.02703, proposition 5. With a horizon
    the mean is that of so many further prompts: each bet is then against what the remaining ones would average.
    """
    count = losses.size
    done = np.arange(count)
    earlier = np.concatenate([[0.0], np.cumsum(losses)[:-1]])
    after = (0.5 + np.cumsum(losses)) / (done + 2)
    variance = (0.25 + np.concatenate([[0.0], np.cumsum((losses - after) ** 2)[:-1]])) / (done + 1)
    if horizon is None:
        null = np.full(count, epsilon)
    else:
        null = (losses.sum() + horizon * epsilon - earlier) / (count + horizon - done)
    # A bet below 1 never loses everything, whatever the null; that it does not depend on the null makes the capital
    # grow with it, so that one null stands for all above.
    bets = np.minimum(np.sqrt(2.0 * math.log(1.0 / delta) / (count * variance)), 0.99)
    capital = np.cumsum(np.log1p(bets * (null - losses)))
    return epsilon >= 1.0 or bool(capital.max() >= math.log(1.0 / delta))


def binomial_tail(successes: int, count: int, chance: float) -> float:
    """P(Bin(count, chance) <= successes)."""
    if successes >= count or chance <= 0.0:
        return 1.0
    if chance >= 1.0:
        return 0.0
    ks = np.arange(successes + 1)
    logs = np.array([math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) for k in ks.tolist()])
    return float(min(1.0, np.exp(logs + ks * math.log(chance) + (count - ks) * math.log1p(-chance)).sum()))


def hoeffding_bentkus(mean: float, count: int, epsilon: float) -> float:
    """P-value of "the mean loss is above epsilon" from the measured mean alone (arXiv 2110.01052, proposition 3)."""
    low = min(mean, epsilon)
    near, far = _relative(low, epsilon), _relative(1.0 - low, 1.0 - epsilon)
    bentkus = math.e * binomial_tail(math.ceil(count * mean - 1e-9), count, epsilon)
    return min(1.0, math.exp(-count * (near + far)), bentkus)


def conformal_p_values(trust: ArrayLike, aligned: ArrayLike, asked: ArrayLike) -> Floats:
    """How surprising each asked score would be for an answer that is not aligned, shape of `asked`.

    Args:
        trust: scores of the calibration answers; higher is more trustworthy.
        aligned: whether each of them was aligned.
        asked: scores of new answers.
    """
    scores, good = np.asarray(trust, np.float64), np.asarray(aligned, bool)
    new = np.asarray(asked, np.float64)
    if scores.shape != good.shape or not np.isfinite(scores).all() or not np.isfinite(new).all():
        raise ValueError("scores must be finite, one an answer")
    bad = np.sort(scores[~good])
    above = bad.size - np.searchsorted(bad, new, side="left")
    return np.asarray((1.0 + above) / (scores.size + 1.0), np.float64)


def benjamini_hochberg(p_values: ArrayLike, level: float) -> NDArray[np.bool_]:
    """Which hypotheses are rejected with a false discovery rate of at most `level` (Benjamini, Hochberg, 1995)."""
    values = np.asarray(p_values, np.float64)
    ordered = np.sort(values)
    fits = _last(ordered <= level * np.arange(1, values.size + 1) / max(1, values.size))
    return values <= (ordered[fits] if fits is not None else -1.0)


def conformal_alignment(trust: ArrayLike, aligned: ArrayLike, asked: ArrayLike, level: float) -> NDArray[np.bool_]:
    """Which answers of a batch the edge may give itself: E[share of them that is not aligned] <= level."""
    return benjamini_hochberg(conformal_p_values(trust, aligned, asked), level)


def _table(losses: ArrayLike) -> Floats:
    table = np.asarray(losses, np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError("losses must be a table of prompts and points, neither of them none")
    if not np.isfinite(table).all() or table.min() < 0.0 or table.max() > 1.0:
        raise ValueError("losses must be numbers from 0 to 1")
    return table


def _last(true: NDArray[np.bool_]) -> int | None:
    found = np.flatnonzero(true)
    return int(found[-1]) if found.size else None


def _relative(part: float, whole: float) -> float:
    """part * ln(part / whole), 0 where part is."""
    return part * math.log(part / whole) if part > 0.0 and whole > 0.0 else 0.0
