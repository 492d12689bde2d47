"""Curves between random escalation and the oracle, on cases that can be done by hand and on random ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from updraft.evaluation.curves import (
    agreement_items,
    area,
    auc,
    bootstrap,
    gain_share,
    oracle_curve,
    random_line,
    scored_curve,
)

SHARES = np.linspace(0, 1, 11)
qualities = arrays(np.float64, 12, elements=st.floats(0, 1, width=32))


def test_the_random_line_joins_the_tiers_qualities() -> None:
    np.testing.assert_allclose(random_line(0.2, 0.8, [0, 0.5, 1]), [0.2, 0.5, 0.8])


def test_the_oracle_escalates_where_the_edge_errs() -> None:
    edge, cloud = [1, 0, 0, 1], [1, 1, 1, 0]
    # Two items gain; the one where only the edge is right stays.
    np.testing.assert_allclose(oracle_curve(edge, cloud, [0, 0.25, 0.375, 0.5, 1]), [0.5, 0.75, 0.875, 1, 1])


def test_a_score_that_knows_everything_is_the_oracle_until_it_does_harm() -> None:
    edge, cloud = np.array([1, 0, 0, 1.0]), np.array([1, 1, 1, 0.0])
    np.testing.assert_allclose(scored_curve(cloud - edge, edge, cloud, [0, 0.5, 0.75, 1]), [0.5, 1, 1, 0.75])


def test_items_of_equal_score_go_in_no_order() -> None:
    edge, cloud = [0, 1, 0, 1], [1, 1, 1, 1]
    np.testing.assert_allclose(scored_curve([3, 3, 3, 3], edge, cloud, SHARES), random_line(0.5, 1, SHARES))


def test_area_is_the_mean_height() -> None:
    assert area([0, 1], [0.25, 0.75]) == 0.5
    assert area([0.2, 0.4], [1, 1]) == 1


@pytest.mark.parametrize("shares", [[0], [0, 0], [1, 0], [0, 2]])
def test_a_curve_that_is_none_is_refused(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="share"):
        area(shares, [0.0] * len(shares))


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="scores"):
        scored_curve([float("nan")], [1], [1], [0])
    with pytest.raises(ValueError, match="edge_items"):
        oracle_curve([float("inf")], [1], [0])
    with pytest.raises(ValueError, match="one quality an item"):
        oracle_curve([1, 1], [1], [0])


def test_shares_of_the_oracles_gain() -> None:
    edge, cloud = [1, 0, 0, 0], [1, 1, 0, 0]
    best = oracle_curve(edge, cloud, SHARES)
    assert gain_share((SHARES, best), edge, cloud) == pytest.approx(1)
    assert gain_share((SHARES, random_line(0.25, 0.5, SHARES)), edge, cloud) == pytest.approx(0)
    assert gain_share((SHARES, scored_curve([0, 0, 1, 2], edge, cloud, SHARES)), edge, cloud) < 0
    assert np.isnan(gain_share((SHARES, random_line(1, 1, SHARES)), [1, 1], [1, 1]))


@given(edge=qualities, cloud=qualities, scores=qualities)
def test_no_score_beats_the_oracle_at_any_share(edge: np.ndarray, cloud: np.ndarray, scores: np.ndarray) -> None:
    best = oracle_curve(edge, cloud, SHARES)
    assert np.all(scored_curve(scores, edge, cloud, SHARES) <= best + 1e-12)
    assert np.all(random_line(edge.mean(), cloud.mean(), SHARES) <= best + 1e-12)
    assert np.all(np.diff(best) >= -1e-12)


def test_tokens_as_items() -> None:
    edge, cloud = agreement_items([5, 7, 9], [5, 8, 9])
    assert edge.tolist() == [1, 0, 1]
    assert cloud.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="3 edge tokens"):
        agreement_items([1, 2, 3], [1])


def test_auc_by_hand_with_a_tie() -> None:
    assert auc([1, 2, 3, 4], [False, False, True, True]) == 1
    assert auc([4, 3, 2, 1], [False, False, True, True]) == 0
    assert auc([1, 1], [False, True]) == 0.5
    assert np.isnan(auc([1, 2], [True, True]))


@given(scores=arrays(np.float64, 20, elements=st.integers(0, 5).map(float)), labels=arrays(bool, 20))
def test_auc_counts_pairs(scores: np.ndarray, labels: np.ndarray) -> None:
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels] for b in scores[~labels]]
    assert auc(scores, labels) == pytest.approx(np.mean(pairs) if pairs else float("nan"), nan_ok=True)


def test_a_bootstrap_is_repeatable_and_holds_the_mean() -> None:
    values = np.random.default_rng(5).normal(3, 1, 200)
    low, high = bootstrap(values, lambda rows: float(rows.mean()), seed=1, n=400)
    assert (low, high) == bootstrap(values, lambda rows: float(rows.mean()), seed=1, n=400)
    assert low < 3 < high
    assert 0.2 < high - low < 0.4  # 2 * 1.96 / sqrt(200) = 0.28


def test_a_bootstrap_without_a_value_says_so() -> None:
    assert np.isnan(bootstrap([1.0], lambda rows: float("nan"), n=3)).all()
    with pytest.raises(ValueError, match="rows"):
        bootstrap([], lambda rows: 0.0)
