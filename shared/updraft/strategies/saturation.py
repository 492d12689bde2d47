"""What a further sample is expected to gain, and whether that is worth its tokens. Pure functions of what came so far.

Of a vote only the two heaviest answers count: that the leader is the majority of all that the model would ever say has
the probability P(Beta(first + 1, second + 1) > 1/2) (adaptive consistency, Aggarwal et al., arXiv 2305.11860). Being
the majority is counted as being right, so gains of votes are upper bounds where the model is mostly wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from updraft.strategies.beta import beta_cdf, log_beta

__all__ = ["best_gain", "effective_counts", "majority_gain", "majority_probability", "pays", "vote_gain"]


def majority_probability(first: float, second: float) -> float:
    """How probable it is that an answer with `first` votes is more usual than one with `second`, uniform prior."""
    return beta_cdf(0.5, second + 1.0, first + 1.0)


def majority_gain(first: float, second: float, more: int) -> float:
    """By how much `more` votes for one of two answers raise the probability that the one ahead is the more usual one.

    The expectation is over the beta-binomial distribution of what these votes say. It is 0 where they cannot overtake.
    """
    gain = 0.0
    for won in range(more + 1):
        ours, theirs = first + won, second + more - won
        if ours >= theirs:
            break
        log_chance = (
            math.lgamma(more + 1)
            - math.lgamma(won + 1)
            - math.lgamma(more - won + 1)
            + log_beta(ours + 1.0, theirs + 1.0)
            - log_beta(first + 1.0, second + 1.0)
        )
        gain += math.exp(log_chance) * (1.0 - 2.0 * majority_probability(ours, theirs))
    return max(0.0, gain)


def vote_gain(counts: Sequence[float], more: int) -> float:
    """The best expected gain a sample that drawing on can have, looking 1, 2, 4, ... and `more` samples ahead.

    One sample alone can hardly ever change a majority, so what it gains is its part of what several do.

    Args:
        counts: votes of each answer, any order; fractions for weighted votes (`effective_counts`).
        more: samples that may still be drawn.
    """
    if more < 1:
        return 0.0
    first, second, *_ = [*sorted(counts, reverse=True), 0.0, 0.0]
    relevant = (first + second) / sum(counts) if first > 0 else 1.0  # samples that give one of the two
    steps = {1 << power for power in range(more.bit_length())} | {more}
    return max(majority_gain(first, second, round(step * relevant)) / step for step in steps)


def effective_counts(totals: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Weighted votes as counts of equal ones: shares of Kish's effective number of samples, (sum w)^2 / sum w^2.

    Args:
        totals: the weight of each answer.
        weights: of the single samples; with equal weights the result is how many samples each answer has.
    """
    total, squares = sum(weights), sum(weight * weight for weight in weights)
    if total <= 0.0 or squares <= 0.0:
        return [0.0] * len(totals)
    number = total * total / squares
    whole = sum(totals)
    return [number * answer / whole for answer in totals]


def best_gain(scores: Sequence[float]) -> float:
    """By how much the next sample's score is expected to exceed the best of `scores`, which are from 0 to 1.

    Scores are taken as draws of the beta distribution with their mean and variance, two uniform ones added as a prior.
    The gain of n-th samples falls with n, so the next one's bounds all later ones'.
    """
    best = max(scores, default=0.0)
    if best >= 1.0:
        return 0.0
    values = np.asarray(scores, float)
    number = len(values) + 2.0
    mean = float(values.sum() + 1.0) / number
    variance = float(((values - mean) ** 2).sum() + 2.0 * ((0.5 - mean) ** 2 + 1.0 / 12.0)) / number
    size = mean * (1.0 - mean) / variance - 1.0
    a, b = mean * size, (1.0 - mean) * size
    return max(0.0, mean * (1.0 - beta_cdf(best, a + 1.0, b)) - best * (1.0 - beta_cdf(best, a, b)))


def pays(gain: float, tokens: float, price: float) -> bool:
    """Whether a gain in accuracy is worth its tokens, at a price in accuracy per 1000 of them."""
    return gain * 1000.0 >= price * max(tokens, 1.0)
