from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.errors import InvalidRequest
from updraft.exits.isotonic import coverage_table, expected_error, fit_curve
from updraft.exits.isotonic import pool_adjacent_violators as pool


@st.composite
def observations(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    size = draw(st.integers(32, 400))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    scores = generator.random(size)
    if draw(st.booleans()):
        scores = np.round(scores, 1)  # many equal scores
    return scores, generator.random(size) < draw(st.sampled_from([0.0, 0.3, 1.0])) + scores * draw(st.floats(-1, 1))


@given(observations())
@settings(max_examples=60, deadline=None)
def test_a_fitted_curve_never_falls_and_stays_inside_0_and_1(data: tuple[Any, Any]) -> None:
    curve = fit_curve(*data)
    assert (np.diff(curve.scores) > 0).all()
    assert (np.diff(curve.probabilities) >= 0).all()
    assert 0 < curve.probabilities[0] <= curve.probabilities[-1] < 1
    between = [curve(score) for score in np.linspace(-0.5, 1.5, 101)]
    assert (np.diff(between) >= 0).all()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=40))
def test_pooling_gives_the_isotonic_least_squares_fit(pairs: list[tuple[int, int]]) -> None:
    sums, weights = np.array(pairs, np.float64).T
    means = sums / weights
    starts = pool(sums, weights)
    levels = np.add.reduceat(sums, starts) / np.add.reduceat(weights, starts)
    fitted = np.repeat(levels, np.diff([*starts, len(means)]))
    # The max-min formula of isotonic regression.
    size = len(means)
    expected = [
        max(min(np.average(means[i : j + 1], weights=weights[i : j + 1]) for j in range(k, size)) for i in range(k + 1))
        for k in range(size)
    ]
    assert fitted == pytest.approx(expected)


def test_it_finds_the_probability_that_the_data_have() -> None:
    generator = np.random.default_rng(3)
    scores = generator.random(20_000)
    agreed = generator.random(20_000) < scores**2
    curve = fit_curve(scores[:10_000], agreed[:10_000])
    assert [curve(score) for score in (0.2, 0.5, 0.8)] == pytest.approx([0.04, 0.25, 0.64], abs=0.06)
    calibrated = np.array([curve(score) for score in scores[10_000:]])
    assert expected_error(calibrated, agreed[10_000:]) < 0.03
    assert expected_error(scores[10_000:], agreed[10_000:]) > 0.1


def test_a_few_successes_at_the_top_claim_no_certainty() -> None:
    scores = np.concatenate([np.full(200, 0.5), [0.9, 0.9]])
    curve = fit_curve(scores, np.concatenate([np.arange(200) < 190, [True, True]]))
    assert curve(0.9) < 0.96


def test_one_score_for_all_gives_their_mean() -> None:
    assert fit_curve(np.zeros(98), np.arange(98) < 24).probabilities == pytest.approx((0.25,))


def test_expected_error_is_the_mean_distance_of_what_was_said_from_what_was_seen() -> None:
    said, seen = np.array([0.1, 0.1, 0.9, 0.9]), np.array([False, True, True, True])
    assert expected_error(said, seen, bins=2) == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)
    assert expected_error(np.array([1.0]), np.array([True])) == 0.0


def test_coverage_counts_what_is_strictly_above_each_threshold() -> None:
    table = coverage_table(np.array([0.2, 0.5, 1.0]), np.array([False, True, False]), [0.0, 0.2, 0.5, 1.0])
    assert [row.share for row in table] == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert [row.agreement for row in table[:3]] == pytest.approx([1 / 3, 1 / 2, 0])
    assert np.isnan(table[3].agreement)


@pytest.mark.parametrize(
    ("scores", "agreed", "reason"),
    [
        (np.zeros(31), np.zeros(31, bool), "at least 32"),
        (np.zeros(40), np.zeros(41, bool), "do not fit"),
        (np.zeros((40, 1)), np.zeros((40, 1), bool), "do not fit"),
        (np.full(40, np.nan), np.zeros(40, bool), "not finite"),
        (np.full(40, np.inf), np.zeros(40, bool), "not finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(scores: Any, agreed: Any, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        fit_curve(scores, agreed)
