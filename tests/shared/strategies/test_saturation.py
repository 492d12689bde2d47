"""Posteriors of votes and scores, and what a further sample is worth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.strategies.beta import beta_cdf
from updraft.strategies.saturation import (
    best_gain,
    effective_counts,
    majority_gain,
    majority_probability,
    pays,
    vote_gain,
)

votes = st.floats(0, 60)


def test_the_beta_function_is_scipys() -> None:
    special = pytest.importorskip("scipy.special")
    random = np.random.default_rng(0)
    for _ in range(300):
        a, b = 10 ** random.uniform(-2, 3, 2)
        x = random.uniform()
        assert beta_cdf(x, a, b) == pytest.approx(special.betainc(a, b, x), abs=1e-11)
    assert beta_cdf(0.0, 2, 3) == 0.0
    assert beta_cdf(1.0, 2, 3) == 1.0


def test_a_majority_of_whole_votes_is_a_binomial_tail() -> None:
    assert majority_probability(0, 0) == pytest.approx(0.5)
    assert majority_probability(4, 0) == pytest.approx(1 - 0.5**5)
    assert majority_probability(3, 1) == pytest.approx(26 / 32)  # P(Binomial(5, 1/2) <= 3)


@given(votes, votes)
def test_one_of_two_is_the_majority(first: float, second: float) -> None:
    assert majority_probability(first, second) + majority_probability(second, first) == pytest.approx(1)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 12))
def test_the_gain_is_what_looking_raises_the_posterior_by(first: int, second: int, more: int) -> None:
    first, second = max(first, second), min(first, second)
    random = np.random.default_rng(first * 400 + second * 20 + more)
    won = random.binomial(more, random.beta(first + 1, second + 1, 4000))
    after = [majority_probability(first + w, second + more - w) for w in range(more + 1)]
    simulated = np.mean([max(after[w], 1 - after[w]) for w in won]) - majority_probability(first, second)
    assert majority_gain(first, second, more) == pytest.approx(simulated, abs=0.03)


@given(st.integers(0, 30), st.integers(0, 30))
def test_votes_that_cannot_overtake_gain_nothing(second: int, lead: int) -> None:
    assert majority_gain(second + lead, second, lead) == 0.0
    assert majority_gain(second + lead, second, lead + 2) > 0.0


def test_a_close_vote_gains_more_than_a_clear_one() -> None:
    gains = [vote_gain(counts, 16) for counts in ([4, 4], [5, 3], [6, 2], [8], [16])]
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] < 1e-4
    assert vote_gain([], 16) > gains[0]  # nothing is known yet
    assert vote_gain([2, 1], 0) == 0.0


def test_answers_that_are_not_among_the_best_two_make_samples_worth_less() -> None:
    assert vote_gain([3, 2, 1, 1, 1, 1, 1], 8) < vote_gain([3, 2], 8)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.floats(0.01, 1))
def test_equal_weights_are_counted_as_they_are(counts: list[int], weight: float) -> None:
    totals = [count * weight for count in counts]
    assert effective_counts(totals, [weight] * sum(counts)) == pytest.approx(counts)


def test_one_heavy_sample_counts_as_little_more_than_one() -> None:
    assert effective_counts([1.0, 0.02], [1.0, 0.01, 0.01]) == pytest.approx([1.02, 0.0204], rel=1e-2)
    assert effective_counts([0.0], [0.0]) == [0.0]


@given(st.lists(st.floats(0, 1), max_size=20))
def test_the_best_score_gains_between_nothing_and_all_that_is_left(scores: list[float]) -> None:
    assert 0.0 <= best_gain(scores) <= 1.0 - max(scores, default=0.0) + 1e-9


def test_scores_gain_less_the_more_there_are() -> None:
    random = np.random.default_rng(1)
    scores = random.beta(2, 2, 64).tolist()
    gains = [best_gain(scores[:count]) for count in (1, 4, 16, 64)]
    assert gains == sorted(gains, reverse=True)
    assert best_gain([0.3, 1.0]) == 0.0
    expected = np.maximum(random.beta(2, 2, 20_000) - max(scores[:16]), 0).mean()
    assert best_gain(scores[:16]) == pytest.approx(expected, abs=0.02)


def test_a_price_is_for_a_thousand_tokens() -> None:
    assert pays(0.01, 100, 0.1)
    assert not pays(0.0099, 100, 0.1)
