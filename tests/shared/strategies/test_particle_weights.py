"""Weights of particles: survivors come as often as their weights say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.strategies.particle_weights import EPSILON, multinomial, odds_weights, systematic, uniforms

REWARDS = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(REWARDS, st.floats(0.05, 20))
def test_weights_are_finite_and_follow_the_rewards(rewards: list[float], temperature: float) -> None:
    weights = odds_weights(rewards, temperature)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    order = np.argsort(rewards, kind="stable")
    assert (np.diff(weights[order]) >= -1e-12).all()


def test_at_temperature_one_weights_are_odds() -> None:
    np.testing.assert_allclose(odds_weights([0.5, 0.8, 0.2]), np.array([1, 4, 0.25]) / 5.25)


def test_temperature_flattens_and_certainty_is_clipped() -> None:
    assert odds_weights([0.9, 0.1], 100.0)[0] == pytest.approx(0.511, abs=1e-3)
    assert odds_weights([1.0, 0.0])[0] == pytest.approx(1, abs=2 * EPSILON)
    np.testing.assert_array_equal(odds_weights([0.0, 0.0, 0.0]), odds_weights([1.0, 1.0, 1.0]))


@given(REWARDS, st.integers(1, 20), st.floats(0, 1, exclude_max=True))
def test_systematic_counts_are_the_floor_or_the_ceiling(rewards: list[float], count: int, uniform: float) -> None:
    weights = odds_weights(rewards)
    drawn = systematic(weights, count, uniform)
    assert len(drawn) == count and drawn == sorted(drawn)
    times = Counter(drawn)
    for index, weight in enumerate(weights):
        assert abs(times[index] - count * weight) < 1 + 1e-9


@settings(deadline=None)
@given(REWARDS, st.integers(1, 8))
def test_systematic_counts_are_right_on_average(rewards: list[float], count: int) -> None:
    weights, grid = odds_weights(rewards), 100
    times = Counter(index for cell in range(grid) for index in systematic(weights, count, (cell + 0.5) / grid))
    for index, weight in enumerate(weights):
        assert times[index] / grid == pytest.approx(count * weight, abs=count / grid + 1e-9)


def test_equal_weights_keep_everybody() -> None:
    assert systematic(odds_weights([0.3] * 7), 7, 0.99) == list(range(7))


def test_multinomial_counts_are_right_on_average() -> None:
    weights = odds_weights([0.5, 0.8, 0.2])
    times = Counter(multinomial(weights, uniforms(3, 6000)))
    for index, weight in enumerate(weights):
        assert times[index] / 6000 == pytest.approx(weight, abs=0.02)


def test_a_point_beyond_the_sum_of_weights_is_the_last_one_with_weight() -> None:
    assert multinomial(np.array([0.5, 0.5 - 1e-9, 0.0]), np.array([1 - 1e-12])) == [1]


def test_uniforms_follow_from_the_key() -> None:
    draws = uniforms(7, 4000)
    np.testing.assert_array_equal(draws, uniforms(7, 4000))
    assert draws.min() >= 0 and draws.max() < 1 and draws.mean() == pytest.approx(0.5, abs=0.02)
    assert not np.array_equal(draws, uniforms(8, 4000))
