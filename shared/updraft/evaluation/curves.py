"""Quality against the share that goes to the cloud: a policy's curve between random escalation and the oracle.

Everything is plain numpy on one quality an item: an answer judged right (1) or wrong (0), or a token that is the
cloud's own (1) or not. The oracle is Duo-LLM's (arXiv 2410.10846): it knows where the edge errs and escalates there
first. The share of its gain over random is RouteLLM's area measure (APGR, arXiv 2406.18665, section 3), taken
relative to what can be reached instead of to the cloud.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "agreement_items",
    "area",
    "auc",
    "bootstrap",
    "gain_share",
    "oracle_curve",
    "random_line",
    "scored_curve",
]

Floats = NDArray[np.float64]


def random_line(edge_q: float, cloud_q: float, shares: ArrayLike) -> Floats:
    """Mean quality where a random share goes to the cloud: the straight line between the tiers' own qualities."""
    given = _shares(shares)
    return (1.0 - given) * edge_q + given * cloud_q


def oracle_curve(edge_items: ArrayLike, cloud_items: ArrayLike, shares: ArrayLike) -> Floats:
    """The best mean quality where at most a share of the items goes to the cloud, each item known beforehand.

    Items where the cloud is worse stay on the edge, so the curve never falls. A part of an item counts in part.
    """
    edge, cloud = _items(edge_items, cloud_items)
    gains = np.sort(np.maximum(cloud - edge, 0.0))[::-1]
    return _along(edge.mean(), gains, _shares(shares))


def scored_curve(scores: ArrayLike, edge_items: ArrayLike, cloud_items: ArrayLike, shares: ArrayLike) -> Floats:
    """Mean quality where exactly the items with the highest scores go to the cloud, for each share.

    Items of equal score go in no order: each gains the group's mean.

    Raises:
        ValueError: scores are not finite or not one an item.
    """
    edge, cloud = _items(edge_items, cloud_items)
    values = _finite("scores", scores)
    if values.shape != edge.shape:
        raise ValueError(f"{values.size} scores for {edge.size} items")
    _, group, sizes = np.unique(-values, return_inverse=True, return_counts=True)
    means = np.bincount(group, cloud - edge) / sizes
    return _along(edge.mean(), np.repeat(means, sizes), _shares(shares))


def area(shares: ArrayLike, quality: ArrayLike) -> float:
    """Mean height of a curve over the shares that it spans (trapezoids); shares must ascend."""
    given, heights = _shares(shares), _finite("quality", quality)
    if given.shape != heights.shape or given.size < 2 or np.any(np.diff(given) < 0) or given[0] == given[-1]:
        raise ValueError("a curve needs at least two ascending shares with one quality each")
    return float(np.trapezoid(heights, given) / (given[-1] - given[0]))


def gain_share(policy_curve: tuple[ArrayLike, ArrayLike], edge_items: ArrayLike, cloud_items: ArrayLike) -> float:
    """The part of the oracle's gain over random that a policy reaches, by area over the policy's own shares.

    1 is the oracle, 0 is no better than random, below 0 is worse. NaN where the oracle gains nothing.

    Args:
        policy_curve: ascending shares from 0 to 1 and the mean quality at each.
    """
    shares, quality = policy_curve
    edge, cloud = _items(edge_items, cloud_items)
    random = area(shares, random_line(edge.mean(), cloud.mean(), shares))
    reachable = area(shares, oracle_curve(edge, cloud, shares)) - random
    return (area(shares, quality) - random) / reachable if reachable > 1e-12 else float("nan")


def bootstrap(
    values: ArrayLike, statistic: Callable[[NDArray[Any]], float], seed: int = 0, n: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """A percentile interval of `statistic` over resampled rows of `values` (Efron, 1979).

    Args:
        values: one row an independent item: resample answers, not their tokens.
        statistic: takes rows like those of `values`; resamples where it is NaN are left out.

    Returns:
        Lower and upper end; both NaN where no resample has a value.
    """
    rows = np.asarray(values)
    if not len(rows) or n < 1 or not 0 < level < 1:
        raise ValueError("a bootstrap needs rows, at least one resample and a level between 0 and 1")
    random = np.random.default_rng(seed)
    drawn = np.array([statistic(rows[random.integers(0, len(rows), len(rows))]) for _ in range(n)], np.float64)
    drawn = drawn[~np.isnan(drawn)]
    if not drawn.size:
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def agreement_items(edge_tokens: Sequence[int], cloud_tokens: Sequence[int]) -> tuple[Floats, Floats]:
    """Items of a token-level oracle: both tiers' greedy tokens along the cloud's text, as qualities.

    The cloud's own token is worth 1; the edge's is worth 1 where it is the same.
    """
    if len(edge_tokens) != len(cloud_tokens):
        raise ValueError(f"{len(edge_tokens)} edge tokens against {len(cloud_tokens)} of the cloud")
    same = np.asarray(edge_tokens, np.int64) == np.asarray(cloud_tokens, np.int64)
    return same.astype(np.float64), np.ones(len(same))


def auc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Probability that a positive item scores above a negative one, ties counting half (Mann, Whitney, 1947).

    NaN where all items are of one kind.
    """
    values, labels = _finite("scores", scores), np.asarray(positive, bool)
    if values.shape != labels.shape:
        raise ValueError(f"{values.size} scores for {labels.size} labels")
    yes = int(labels.sum())
    no = labels.size - yes
    if not yes or not no:
        return float("nan")
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2.0)[group]
    return float((ranks[labels].sum() - yes * (yes + 1) / 2.0) / (yes * no))


def _along(start: float, gains: Floats, shares: Floats) -> Floats:
    """Mean quality after the first items of `gains`, interpolated between whole items."""
    reached = start + np.concatenate([[0.0], np.cumsum(gains)]) / gains.size
    return np.interp(shares * gains.size, np.arange(gains.size + 1), reached)


def _shares(shares: ArrayLike) -> Floats:
    given = _finite("shares", shares)
    if np.any((given < 0) | (given > 1)):
        raise ValueError("a share is from 0 to 1")
    return given


def _items(edge_items: ArrayLike, cloud_items: ArrayLike) -> tuple[Floats, Floats]:
    edge, cloud = _finite("edge_items", edge_items), _finite("cloud_items", cloud_items)
    if edge.shape != cloud.shape or edge.ndim != 1 or not edge.size:
        raise ValueError(f"edge and cloud need one quality an item; they have {edge.size} and {cloud.size}")
    return edge, cloud


def _finite(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return array
