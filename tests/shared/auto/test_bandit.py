"""The bandit: equal to ridge regression, bounded by its prior, sublinear in its regret, the same for the same seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from updraft.auto.bandit import SPREAD, LinUcb

X = np.array([1.0, 0.5, 0.0])


def choose(bandit: LinUcb, priors: dict[str, float], x: NDArray[np.float64] = X, **options: float) -> str:
    return bandit.choose(priors, x, **{"explore": 0.0, "random_share": 0.0, "draw": 0.5, **options}).name


def test_without_a_history_the_prior_decides() -> None:
    bandit = LinUcb(3)
    for explore in (0.0, 0.5, 10.0):
        assert choose(bandit, {"a": 0.4, "b": 0.6, "c": 0.6}, explore=explore) == "b"


def test_estimates_are_those_of_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    contexts, rewards = rng.random((40, 3)), rng.normal(0, 0.1, 40)
    bandit = LinUcb(3)
    for x, residual in zip(contexts, rewards, strict=True):
        bandit.learn("a", x, float(residual))
    inverse = np.linalg.inv(np.eye(3) + contexts.T @ contexts)
    found = bandit.estimate("a", X, 0.5, explore=2.0)
    assert found.value == pytest.approx(0.5 + X @ inverse @ contexts.T @ rewards)
    assert found.bonus == pytest.approx(2.0 * SPREAD * math.sqrt(X @ inverse @ X))


def test_bounds_shrink_where_it_has_learned_and_stay_elsewhere() -> None:
    bandit = LinUcb(2)
    for _ in range(50):
        bandit.learn("a", np.array([1.0, 0.0]), 0.0)
    assert bandit.estimate("a", np.array([1.0, 0.0]), 0.5, explore=1.0).bonus < 0.02
    assert bandit.estimate("a", np.array([0.0, 1.0]), 0.5, explore=1.0).bonus == pytest.approx(SPREAD)


def test_estimates_stay_between_0_and_1() -> None:
    bandit = LinUcb(3)
    for _ in range(20):
        bandit.learn("a", X, 5.0)
        bandit.learn("b", X, -5.0)
    assert bandit.estimate("a", X, 0.9).value == 1.0
    assert bandit.estimate("b", X, 0.1).value == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_teaches_nothing(bad: float) -> None:
    bandit = LinUcb(3)
    bandit.learn("a", X, bad)
    bandit.learn("a", np.array([1.0, bad, 0.0]), 0.1)
    assert bandit.seen("a") == 0 and bandit.estimate("a", X, 0.5).value == 0.5


def test_propensities_are_those_of_the_draws() -> None:
    bandit, priors = LinUcb(3), {"a": 0.1, "b": 0.9, "c": 0.2}
    draws = [bandit.choose(priors, X, explore=0.0, random_share=0.3, draw=place / 1000) for place in range(1000)]
    counts = {name: sum(choice.name == name for choice in draws) for name in priors}
    assert counts == {"a": 100, "b": 800, "c": 100}
    chances = {choice.name: choice.propensity for choice in draws}
    assert chances == {"a": pytest.approx(0.1), "b": pytest.approx(0.8), "c": pytest.approx(0.1)}
    assert sum(choice.random for choice in draws) == 300


def test_a_single_arm_is_certain() -> None:
    choice = LinUcb(3).choose({"a": 0.1}, X, explore=1.0, random_share=1.0, draw=0.0)
    assert (choice.name, choice.propensity, choice.random) == ("a", 1.0, False)


def regret(explore: float, rounds: int, *, seed: int, learn: bool = True) -> list[float]:
    """Cumulative regret in a linear world of three arms whose prior is wrong."""
    rng = np.random.default_rng(seed)
    weights = {"a": np.array([0.1, 0.3, -0.2]), "b": np.array([0.2, -0.3, 0.2]), "c": np.array([0.15, 0.0, 0.0])}
    bandit, total, line = LinUcb(3), 0.0, []
    for _ in range(rounds):
        x = np.array([1.0, rng.random(), rng.random()])
        worth = {name: 0.5 + float(w @ x) for name, w in weights.items()}
        name = choose(bandit, dict.fromkeys(weights, 0.5), x, explore=explore)
        if not learn:
            name = list(weights)[int(rng.integers(3))]
        bandit.learn(name, x, worth[name] + float(rng.normal(0, 0.05)) - 0.5)
        total += max(worth.values()) - worth[name]
        line.append(total)
    return line


def test_regret_grows_more_slowly_than_chance_and_than_linearly() -> None:
    for seed in range(5):
        learned, chance = regret(0.5, 1200, seed=seed), regret(0.5, 1200, seed=seed, learn=False)
        assert learned[-1] < 0.2 * chance[-1]
        assert learned[-1] - learned[599] < 0.5 * learned[599]  # the second half costs less than half of the first
