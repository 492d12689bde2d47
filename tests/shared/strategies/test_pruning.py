"""The mixture that tells probable samples from improbable ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.strategies.pruning import Mixture, Weibull, fit_mixture, surviving

probabilities = st.floats(0, 1)


def drawn(share: float, first: Weibull, second: Weibull, count: int, seed: int) -> list[float]:
    random = np.random.default_rng(seed)
    high = random.uniform(size=count) < share
    tops = first.scale * random.weibull(first.shape, count)
    lows = second.scale * random.weibull(second.shape, count)
    return np.where(high, tops, lows).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.75])
def test_the_fit_recovers_what_was_drawn(share: float) -> None:
    first, second = Weibull(8.0, 0.8), Weibull(3.0, 0.3)
    found = fit_mixture(drawn(share, first, second, 8000, seed=3))
    assert found.share == pytest.approx(share, abs=0.03)
    for fitted, true in ((found.first, first), (found.second, second)):
        assert fitted.shape == pytest.approx(true.shape, rel=0.1)
        assert fitted.scale == pytest.approx(true.scale, rel=0.03)
        assert fitted.mean == pytest.approx(true.mean, rel=0.03)


@pytest.mark.parametrize("count", [20, 64, 400])
def test_the_fit_is_as_likely_as_scipys(count: int) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    values = drawn(0.6, Weibull(8.0, 0.8), Weibull(3.0, 0.3), count, seed=count)

    def loss(x: list[float]) -> float:
        return -Mixture(x[0], Weibull(x[1], x[2]), Weibull(x[3], x[4])).log_likelihood(values)

    bounds = [(0.2, 0.8), (0.05, 200), (1e-3, None), (0.05, 200), (1e-3, None)]
    best = optimize.minimize(loss, [0.5, 1.0, 1.0, 1.5, 2.0], bounds=bounds, method="L-BFGS-B")
    assert fit_mixture(values).log_likelihood(values) >= -best.fun - 1e-3


@given(st.lists(st.floats(1e-9, 1), min_size=3, max_size=60, unique=True))
def test_any_values_give_a_mixture(values: list[float]) -> None:
    found = fit_mixture(values)
    assert 0.2 - 1e-9 <= found.share <= 0.8 + 1e-9
    assert found.first.mean >= found.second.mean
    posterior = found.posterior(values)
    assert np.isfinite(posterior).all()
    assert ((posterior >= 0) & (posterior <= 1 + 1e-9)).all()


@given(st.lists(probabilities, min_size=1, max_size=40))
def test_the_likeliest_survives_and_nothing_above_the_mean_goes(values: list[float]) -> None:
    kept = surviving(values)
    mean = float(np.mean(values))
    assert kept[values.index(max(values))]
    assert all(keep or value < mean for keep, value in zip(kept, values, strict=True))


@given(st.lists(probabilities, min_size=20, max_size=40), st.randoms())
def test_the_order_of_samples_does_not_matter(values: list[float], random: object) -> None:
    order = np.random.default_rng(len(values)).permutation(len(values))
    kept, shuffled = surviving(values), surviving([values[index] for index in order])
    assert [kept[index] for index in order] == shuffled


def test_a_few_are_held_against_their_mean() -> None:
    assert surviving([0.9, 0.2, 0.1]) == [True] * 3
    assert surviving([0.9, 0.8, 0.2, 0.1]) == [True, True, False, False]
    assert surviving([0.5] * 10) == [True] * 10


def test_many_are_told_apart_by_the_mixture() -> None:
    values = [*np.linspace(0.7, 0.9, 30), *np.linspace(0.1, 0.2, 10)]
    assert surviving(values) == [True] * 30 + [False] * 10


def test_what_is_below_the_mean_goes_only_with_the_lower_component() -> None:
    values = np.minimum(drawn(0.75, Weibull(4.0, 0.7), Weibull(2.0, 0.2), 200, seed=1), 1.0).tolist()
    higher, low = fit_mixture(values).posterior(values), np.array(values) < np.mean(values)
    assert (low & (higher > 0.5) & (higher < 0.9)).any()  # the two overlap below the mean
    assert surviving(values) == (~(low & (higher < 0.5))).tolist()
