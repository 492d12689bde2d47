"""The promises hold on losses whose true risk is known, and fail where they should without the correction."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from updraft.evaluation.conformal import (
    benjamini_hochberg,
    betting_rejects,
    binomial_tail,
    conformal_alignment,
    conformal_p_values,
    hoeffding_bentkus,
    learn_then_test,
    monotone,
    plug_in,
    rejects,
    risk_control,
)

Floats = NDArray[np.float64]
RISKS = np.array([0.0, 0.01, 0.03, 0.05, 0.07, 0.1, 0.2, 0.4])
REPEATS = 400


def graded(random: np.random.Generator, prompts: int) -> Floats:
    """Losses with the means RISKS: most prompts lose nothing, a few much, nested as a threshold would make them."""
    hard = random.uniform(size=(prompts, 1))
    lost: Floats = (hard < np.minimum(1.0, RISKS * 2)) * random.uniform(0.0, 1.0, size=(prompts, len(RISKS)))
    return lost


def binary(random: np.random.Generator, prompts: int) -> Floats:
    return (random.uniform(size=(prompts, 1)) < RISKS).astype(np.float64)


@pytest.mark.parametrize("make", [graded, binary])
@pytest.mark.parametrize("prompts", [10, 60, 300])
def test_the_expected_loss_is_below_epsilon_at_the_confidence(make: Callable[..., Floats], prompts: int) -> None:
    random = np.random.default_rng(5)
    broken = sum(RISKS[learn_then_test(make(random, prompts), 0.06, 0.1) or 0] > 0.06 for _ in range(REPEATS))
    assert broken <= 0.1 * REPEATS + 3 * math.sqrt(REPEATS * 0.1 * 0.9)


def test_the_measured_mean_alone_breaks_the_promise_often() -> None:
    random = np.random.default_rng(5)
    broken = sum(RISKS[plug_in(binary(random, 60), 0.06) or 0] > 0.06 for _ in range(REPEATS))
    assert broken > 0.25 * REPEATS


def test_enough_prompts_reach_the_boldest_setting_within_the_promise() -> None:
    random = np.random.default_rng(1)
    assert learn_then_test(binary(random, 6000), 0.06, 0.05) == 3
    assert learn_then_test(graded(random, 6000), 0.06, 0.05) == 3
    assert risk_control(binary(random, 6000), 0.06) == 3


@pytest.mark.parametrize("prompts", [20, 100])
def test_risk_control_holds_in_expectation(prompts: int) -> None:
    random = np.random.default_rng(2)
    chosen = [risk_control(graded(random, prompts), 0.06) for _ in range(REPEATS)]
    risks = np.array([0.0 if point is None else RISKS[point] for point in chosen])
    assert risks.mean() <= 0.06 + 3 * risks.std() / math.sqrt(REPEATS)


def test_risk_control_needs_prompts_in_proportion_to_its_level() -> None:
    nothing_lost = np.zeros((18, 3))
    assert risk_control(nothing_lost, 0.05) is None
    assert risk_control(np.zeros((19, 3)), 0.05) == 2


def test_losses_that_fall_again_are_taken_at_their_highest() -> None:
    losses = np.tile([0.0, 0.5, 0.0], (200, 1))
    assert monotone(losses)[0].tolist() == [0.0, 0.5, 0.5]
    assert risk_control(losses, 0.1) == 0
    assert learn_then_test(losses, 0.1, 0.05) == 0  # the sequence ends where it fails first


def test_points_that_are_exact_need_no_test() -> None:
    few = np.zeros((3, 2))
    assert learn_then_test(few, 0.05, 0.05) is None
    assert learn_then_test(few, 0.05, 0.05, exact=[True, False]) == 0


def test_a_promise_about_the_next_prompts_is_held_by_them() -> None:
    random, broken = np.random.default_rng(3), 0
    for _ in range(REPEATS):
        losses = graded(random, 120)
        point = learn_then_test(losses[:60], 0.08, 0.1, horizon=60)
        broken += point is not None and losses[60:, point].mean() > 0.08
    assert broken <= 0.1 * REPEATS


def test_a_far_horizon_is_the_expectation() -> None:
    losses = graded(np.random.default_rng(4), 200)[:, 3]
    for epsilon in np.linspace(0.02, 0.3, 30).tolist():
        assert betting_rejects(losses, epsilon, 0.1) == betting_rejects(losses, epsilon, 0.1, horizon=10**9)


def test_nothing_is_rejected_that_is_true() -> None:
    random = np.random.default_rng(6)
    wrong = sum(rejects(random.beta(0.2, 1.8, size=80), 0.1, 0.05) for _ in range(REPEATS))  # the mean is 0.1
    assert wrong <= 0.05 * REPEATS + 3 * math.sqrt(REPEATS * 0.05 * 0.95)


def test_betting_finds_what_the_mean_alone_does_not() -> None:
    losses = np.tile([0.02, 0.04], 50)
    assert betting_rejects(losses, 0.08, 0.05)
    assert hoeffding_bentkus(float(losses.mean()), losses.size, 0.08) > 0.05


def test_the_binomial_tail() -> None:
    assert binomial_tail(0, 10, 0.1) == pytest.approx(0.9**10)
    assert binomial_tail(2, 4, 0.5) == pytest.approx(11 / 16)
    assert binomial_tail(4, 4, 0.5) == 1.0
    assert binomial_tail(3, 400, 0.9) < 1e-300


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, 1.1])
def test_losses_that_are_none_are_refused(bad: float) -> None:
    losses = np.zeros((4, 2))
    losses[2, 1] = bad
    with pytest.raises(ValueError, match="from 0 to 1"):
        risk_control(losses, 0.1)
    with pytest.raises(ValueError, match="from 0 to 1"):
        learn_then_test(losses, 0.1, 0.1)
    with pytest.raises(ValueError, match="prompts and points"):
        risk_control(np.zeros((0, 3)), 0.1)


def test_conformal_p_values_by_hand() -> None:
    values = conformal_p_values([0.1, 0.4, 0.6, 0.9], [False, False, True, False], [0.0, 0.4, 0.5, 0.95])
    assert values.tolist() == pytest.approx([4 / 5, 3 / 5, 2 / 5, 1 / 5])
    with pytest.raises(ValueError, match="finite"):
        conformal_p_values([math.nan], [True], [0.1])


def test_benjamini_hochberg_by_hand() -> None:
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.5], 0.05).tolist() == [True, False, False, False]
    assert benjamini_hochberg([0.01, 0.02, 0.03, 0.5], 0.05).tolist() == [True, True, True, False]
    assert benjamini_hochberg([0.9, 0.8], 0.05).tolist() == [False, False]


def test_of_the_answers_that_are_trusted_few_are_not_aligned() -> None:
    random, shares, chosen = np.random.default_rng(7), [], 0
    for _ in range(REPEATS):
        scores = random.normal(size=300)
        aligned = random.uniform(size=300) < 1 / (1 + np.exp(-2.5 * scores))
        trusted = conformal_alignment(scores[:200], aligned[:200], scores[200:], 0.15)
        chosen += int(trusted.sum())
        shares.append(float((trusted & ~aligned[200:]).sum() / max(1, trusted.sum())))
    assert float(np.mean(shares)) <= 0.15 + 3 * float(np.std(shares)) / math.sqrt(REPEATS)
    assert chosen > 20 * REPEATS  # the promise is not kept by trusting nothing
