"""How alike two texts or token sequences are: 0 nothing in common, 1 the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from updraft.sampling import Sampled

__all__ = ["edit_similarity", "kl_divergence", "lcs_f1", "prefix_share", "total_variation"]


def prefix_share(one: Sequence[int], other: Sequence[int]) -> float:
    """Length of the common beginning over the length of the longer one."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    longest = max(len(one), len(other))
    return same / longest if longest else 1.0


def edit_similarity(one: Sequence[int], other: Sequence[int]) -> float:
    """One less the Levenshtein distance over the length of the longer one."""
    longest = max(len(one), len(other))
    return 1.0 - _distance(one, other) / longest if longest else 1.0


def lcs_f1(one: Sequence[int], other: Sequence[int]) -> float:
    """F1 of the longest common subsequence (ROUGE-L, Lin, ACL 2004, section 3.1 with beta = 1), over tokens."""
    if not one or not other:
        return float(len(one) == len(other))
    return 2.0 * _common(one, other) / (len(one) + len(other))


def total_variation(one: Sampled, other: Sampled) -> float:
    """Total variation of two distributions at one place, from their most probable tokens.

    Tokens that not both report count together, as one: a lower bound, exact where all tokens are reported.
    """
    known, rest = _shared(one, other)
    return 0.5 * (sum(abs(p - q) for p, q in known) + abs(rest[0] - rest[1]))


def kl_divergence(one: Sampled, other: Sampled) -> float:
    """KL(one || other) in nats over the tokens that both report, and all others as one: a lower bound (log-sum)."""
    known, rest = _shared(one, other)
    terms = [p * math.log(p / max(q, 1e-12)) for p, q in [*known, rest] if p > 1e-12]
    return max(0.0, sum(terms))


def _shared(one: Sampled, other: Sampled) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """Probabilities of the tokens that both report, and what is left of each."""
    first = {token: math.exp(logprob) for token, logprob in one.top}
    second = {token: math.exp(logprob) for token, logprob in other.top}
    known = [(first[token], second[token]) for token in first if token in second]
    left = [max(0.0, 1.0 - sum(pair[side] for pair in known)) for side in (0, 1)]
    return known, (left[0], left[1])


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common subsequence, row by row."""
    right = np.asarray(other)
    row = np.zeros(len(other) + 1, np.int64)
    for token in one:
        # A match extends the diagonal; the running maximum carries what stands left of it.
        row[1:] = np.maximum(row[1:], row[:-1] + (right == token))
        row = np.maximum.accumulate(row)
    return int(row[-1])


def _distance(one: Sequence[int], other: Sequence[int]) -> int:
    """Levenshtein distance, row by row."""
    right = np.asarray(other)
    steps = np.arange(len(other) + 1)
    row = steps
    for number, token in enumerate(one, start=1):
        below = np.empty_like(row)
        below[0] = number
        below[1:] = np.minimum(row[1:] + 1, row[:-1] + (right != token))
        # Insertions run along the row: each costs one, so the running minimum of value - place gives them all.
        row = np.minimum.accumulate(below - steps) + steps
    return int(row[-1])
