"""The model of resampling with a verifier that errs is what a simulation does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.samples import ScoreTable
from updraft.strategies.cap import Cap
from updraft.strategies.resampling import MOST_TRIES, Resampling

rates = st.floats(0.01, 0.99)


def simulated(model: Resampling, tries: int, runs: int = 40_000) -> float:
    random = np.random.default_rng(tries)
    p = random.choice(model.rates, runs, p=model.shares / model.shares.sum())
    right = random.uniform(size=(tries, runs)) < p
    passing = np.where(right, model.true_positive, model.false_positive)
    passed = random.uniform(size=(tries, runs)) < passing
    chosen = np.where(passed.any(axis=0), passed.argmax(axis=0), 0)
    return float(right[chosen, np.arange(runs)].mean())


@pytest.mark.parametrize("tries", [1, 2, 7])
@pytest.mark.parametrize(("false_positive", "true_positive"), [(0.0, 1.0), (0.2, 1.0), (0.3, 0.7)])
def test_accuracy_is_as_simulated(false_positive: float, true_positive: float, tries: int) -> None:
    spread = Resampling.of_accuracy(0.4, false_positive, true_positive)
    measured = Resampling.of_problems([0.05, 0.3, 0.9], false_positive, true_positive)
    for model in (spread, measured):
        assert model.accuracy(tries) == pytest.approx(simulated(model, tries), abs=0.012)


@given(rates, rates, rates)
def test_one_try_is_as_accurate_as_a_sample_and_many_reach_the_ceiling(p: float, f: float, t: float) -> None:
    model = Resampling.of_problems([p], f, t)
    assert model.accuracy(1) == pytest.approx(p)
    assert model.ceiling == pytest.approx(t * p / (t * p + f * (1 - p)))
    assert model.accuracy(5000) == pytest.approx(model.ceiling, abs=1e-3)


@given(rates, st.floats(0, 0.9))
def test_a_spread_has_the_measured_mean(accuracy: float, false_positive: float) -> None:
    model = Resampling.of_accuracy(accuracy, false_positive)
    assert model.shares.sum() == pytest.approx(1)
    assert model.accuracy(1) == pytest.approx(accuracy)


def test_the_ceiling_and_what_is_enough_fall_with_false_positives() -> None:
    models = [Resampling.of_accuracy(0.5, rate) for rate in (0.0, 0.05, 0.1, 0.3, 0.6)]
    assert [model.ceiling for model in models] == sorted((model.ceiling for model in models), reverse=True)
    assert models[0].ceiling == pytest.approx(1)
    enough = [model.enough(0.01) for model in models]
    assert enough == sorted(enough, reverse=True)
    assert enough[-1] < 8 < 50 < enough[0]
    for model, tries in zip(models, enough, strict=True):
        most = model.accuracy(MOST_TRIES)
        assert model.accuracy(tries) >= most - 0.01 > model.accuracy(max(1, tries - 1)) - 1e-9


def test_a_verifier_that_tells_nothing_makes_one_try_enough() -> None:
    model = Resampling.of_accuracy(0.5, 0.5, 0.5)
    assert model.accuracy(50) == pytest.approx(0.5)
    assert model.enough(0.01) == 1
    assert model.worth(0.01, 100) == 1


def test_gains_fall_as_hard_problems_are_left() -> None:
    model = Resampling.of_accuracy(0.5, 0.1)
    gains = [model.gain(tries) for tries in (1, 2, 4, 8, 64)]
    assert gains == sorted(gains, reverse=True)
    tries = model.worth(0.2, 500)
    assert model.gain(tries) < 0.1 <= model.gain(tries - 1)
    assert Resampling.of_problems([0.5], 0.1).worth(0.2, 500) == MOST_TRIES  # the next try is as good as the last


def test_what_passes_late_is_trusted_less() -> None:
    model = Resampling.of_accuracy(0.5, 0.2)
    trust = [model.trust(tries) for tries in (1, 2, 5, 20)]
    assert trust == sorted(trust, reverse=True)
    assert trust[0] == pytest.approx(0.5 / 0.6)
    assert Resampling.of_accuracy(0.5, 0.0).trust(9) == pytest.approx(1)


def test_a_cap_follows_the_verifiers_measured_errors() -> None:
    cap = Cap()
    assert cap.tries(ScoreTable(false_positive_rate=0.3)) < cap.tries(ScoreTable(false_positive_rate=0.05))
    assert Cap(slack=0.0).tries(ScoreTable(false_positive_rate=0.3)) == MOST_TRIES
    assert cap.tries(ScoreTable()) == MOST_TRIES
    assert Cap(unmeasured=6).tries(ScoreTable()) == 6
