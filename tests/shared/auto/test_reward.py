"""Contexts, rewards and what is expected before anything is learned: finite, in range, and in a sane order."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shared.auto.situations import outcome, situation
from updraft.auto.arms import ARMS, arms_of, settings_of
from updraft.auto.context import FEATURES, Situation, features
from updraft.auto.prior import expected_reward
from updraft.auto.reward import GOALS, Outcome, reward
from updraft.generation import Statistics
from updraft.modes import Mode, ModeSettings

ANY = st.floats(allow_nan=True, allow_infinity=True)
SITUATIONS = st.builds(
    Situation,
    edge_s=ANY,
    cloud_s=ANY,
    round_trip_s=st.none() | ANY,
    throughput=st.none() | ANY,
    agreement=ANY,
    load=ANY,
    battery=st.booleans(),
    prompt_tokens=st.integers(0, 10**9),
    tokens=st.integers(0, 10**9),
    sampled=st.booleans(),
    chat=st.booleans(),
    digits=ANY,
    marks=ANY,
)
COUNT = st.integers(0, 10**6)
OUTCOMES = st.builds(
    Outcome,
    tokens=COUNT,
    seconds=st.floats(0, 1e9),
    unverified=COUNT,
    probability=ANY,
    tolerated=COUNT,
    cloud_tokens=COUNT,
    cloud_passes=COUNT,
    degraded=st.booleans(),
)
BY_NAME = {arm.name: arm for arm in ARMS}


@given(SITUATIONS)
def test_features_are_finite_whatever_was_measured(given: Situation) -> None:
    x = features(given)
    assert x.shape == (len(FEATURES),) and np.isfinite(x).all() and (x >= 0).all() and (x <= 1).all()


@given(SITUATIONS, st.sampled_from(ARMS), st.sampled_from(sorted(GOALS)))
def test_expectations_are_rewards(given: Situation, arm: object, goal: str) -> None:
    expected = expected_reward(arm, given, goal)  # type: ignore[arg-type]
    assert 0.0 <= expected <= 1.0


@given(OUTCOMES, SITUATIONS, st.sampled_from(sorted(GOALS)))
def test_rewards_are_from_0_to_1(came: Outcome, given: Situation, goal: str) -> None:
    assert 0.0 <= reward(came, given, goal) <= 1.0  # type: ignore[arg-type]


def test_weights_add_up_to_1() -> None:
    assert all(sum(weights) == pytest.approx(1.0) for weights in GOALS.values())


def test_the_reward_is_the_documented_sum() -> None:
    here = situation(edge_s=0.01, agreement=0.6)
    came = outcome(
        tokens=100, seconds=3.0, unverified=40, probability=0.8, tolerated=10, cloud_passes=25, cloud_tokens=30
    )
    quality = (100 - 40 - 5 + 40 * 0.7) / 100
    expected = 0.5 * quality + 0.3 * (0.01 / (0.01 + 0.03)) + 0.2 * (1 - 0.3)
    assert reward(came, here, "balanced") == pytest.approx(expected)


@pytest.mark.parametrize("goal", sorted(GOALS))
def test_better_answers_are_worth_more(goal: str) -> None:
    def worth(**given: object) -> float:
        return reward(replace(outcome(unverified=10, probability=0.5), **given), situation(), goal)  # type: ignore[arg-type]

    usual = worth()
    assert worth(unverified=20) < usual < worth(unverified=0)
    assert worth(seconds=2.0) < usual < worth(seconds=0.2)
    assert worth(cloud_passes=64) < usual < worth(cloud_passes=0, cloud_tokens=0)
    assert worth(degraded=True) == worth(tokens=0) == 0.0


def test_outcomes_are_read_from_statistics() -> None:
    counts = Statistics(tokens=10, unverified=4, unverified_probability=3.0, cloud_passes=2, seconds=0.5)
    came = Outcome.of(counts, degraded=False)
    assert (came.tokens, came.unverified, came.probability, came.cloud_passes) == (10, 4, 0.75, 2)
    assert Outcome.of(Statistics(), degraded=True).probability == 0.0


def best(goal: str, **given: object) -> str:
    usable = arms_of(("edge", "cloud", "draft", "span"), works=lambda mode: True, cloud=True)
    return max(usable, key=lambda arm: expected_reward(arm, situation(**given), goal)).name  # type: ignore[arg-type]


def test_defaults_are_sane() -> None:
    assert best("quality", round_trip_s=0.0) == "draft"
    assert best("balanced", round_trip_s=0.0) == "draft"
    assert best("latency", round_trip_s=0.3) == "edge"
    assert best("cost", round_trip_s=0.0) == "edge"
    assert best("quality", round_trip_s=0.3, cloud_s=0.004, tokens=256) in {"cloud", "draft"}


def test_an_unknown_link_is_taken_for_a_usual_one() -> None:
    for arm in ARMS:
        unknown = expected_reward(arm, situation(round_trip_s=None), "balanced")
        assert unknown == expected_reward(arm, situation(round_trip_s=math.nan), "balanced")
        assert unknown == expected_reward(arm, situation(round_trip_s=0.04), "balanced")


def test_arms_that_cannot_work_are_left_out() -> None:
    def names(*modes: str, cloud: bool = True, text_only: bool = False, without: Mode = Mode.EXIT) -> list[str]:
        found = arms_of(modes, works=lambda mode: mode is not without, cloud=cloud, text_only=text_only)
        return [arm.name for arm in found]

    every = tuple(mode.value for mode in Mode if mode is not Mode.AUTO)
    assert names(*every) == [arm.name for arm in ARMS if arm.mode is not Mode.EXIT]
    assert names(*every, cloud=False) == ["edge"]
    assert names("cloud", "draft", cloud=False) == ["edge"]
    assert set(names(*every, text_only=True)) == {"edge", "cloud", "route", "reason"}
    assert names("draft", text_only=True) == ["edge"]
    assert names("lookup", "draft", without=Mode.LOOKUP) == ["draft"]


def test_arms_are_settings_over_the_requests_own() -> None:
    base = ModeSettings(mode=Mode.AUTO).model_copy(update={"local_only": True})
    for arm in ARMS:
        found = settings_of(arm, base)
        assert found.mode is arm.mode and found.local_only
    assert settings_of(BY_NAME["cascade 0.3"], base).acceptance.alpha == 0.3
    assert settings_of(BY_NAME["span 3"], base).span.escalate == 3.0
    assert len(BY_NAME) == len(ARMS)


def test_nothing_of_a_situation_is_text() -> None:
    assert {str(entry.type) for entry in fields(Situation)} <= {"float", "float | None", "int", "bool"}
