"""The learner: the same choices for the same seed and history, every goal from every answer, and its regret."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shared.auto.situations import outcome, record, situation
from updraft.auto.arms import ARMS, Arm
from updraft.auto.context import Situation
from updraft.auto.history import History
from updraft.auto.learner import Learner, pair_key
from updraft.auto.regret import summarise
from updraft.auto.reward import Outcome, reward
from updraft.mode_settings import AutoSettings

BY_NAME = {arm.name: arm for arm in ARMS}
THREE = [BY_NAME[name] for name in ("edge", "cloud", "draft")]
SETTINGS = AutoSettings(explore=0.5, random_share=0.2)


def world(arm: Arm, here: Situation) -> Outcome:
    """Far links make drafting slow, against what the defaults expect of them."""
    far = (here.round_trip_s or 0.0) > 0.05
    if arm.name == "edge":
        return outcome(seconds=0.4, unverified=64, probability=0.9, cloud_tokens=0, cloud_passes=0)
    if arm.name == "cloud":
        return outcome(seconds=0.8, cloud_passes=64, cloud_tokens=64)
    return outcome(seconds=20.0 if far else 0.5, cloud_passes=15)


def play(learner: Learner, rounds: int, settings: AutoSettings = SETTINGS) -> list[str]:
    """Names of the choices, on near and far links in turn."""
    learner.meet("p")
    names = []
    for number in range(rounds):
        ticket = learner.choose(THREE, situation(round_trip_s=0.08 if number % 2 else 0.001), settings)
        learner.learn(ticket, world(ticket.arm, ticket.situation))
        names.append(ticket.arm.name)
    return names


def test_the_same_seed_makes_the_same_choices(tmp_path: Path) -> None:
    first = play(Learner(History(tmp_path / "a"), seed=1), 60)
    assert first == play(Learner(History(tmp_path / "b"), seed=1), 60)
    assert first != play(Learner(History(tmp_path / "c"), seed=2), 60)


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "auto.jsonl"
    play(Learner(History(path), seed=1), 80)
    calm = AutoSettings(explore=0.0, random_share=0.0)
    fresh, restarted = Learner(History(None), seed=1), Learner(History(path), seed=1)
    assert set(play(fresh, 2, calm)) == {"draft"}
    assert play(restarted, 4, calm)[1::2] == ["edge", "edge"]  # far away, drafting turned out slow


def test_other_pairs_teach_nothing(tmp_path: Path) -> None:
    path = tmp_path / "auto.jsonl"
    play(Learner(History(path), seed=1), 40)
    other = Learner(History(path), seed=1)
    other.meet("q")
    expected = other.choose(THREE, situation(), AutoSettings(random_share=0.0)).choice.estimates
    fresh = Learner(History(None), seed=1)
    fresh.meet("q")
    assert expected == fresh.choose(THREE, situation(), AutoSettings(random_share=0.0)).choice.estimates


def test_every_goal_learns_from_every_answer() -> None:
    learner = Learner(History(None), seed=0)
    learner.meet("p")
    quality = AutoSettings(goal="quality", random_share=0.0)
    before = learner.choose(THREE, situation(), quality).choice.estimates["draft"]
    for _ in range(10):
        ticket = learner.choose([BY_NAME["draft"]], situation(), AutoSettings(goal="cost"))
        learner.learn(ticket, outcome(degraded=True))
    after = learner.choose(THREE, situation(), quality).choice.estimates["draft"]
    assert after.value < before.value and after.bonus < before.bonus


def test_pairs_are_told_apart_without_their_names() -> None:
    assert pair_key("small", "host:1") != pair_key("small", "host:2") != pair_key("other", "host:2")
    assert "small" not in pair_key("small", None) and len(pair_key("small", None)) == 16


def test_regret_is_estimated_from_the_log() -> None:
    learner = Learner(History(None), seed=3)
    play(learner, 300)
    summary = summarise(learner.records, "balanced")
    arms = {arm.name: arm for arm in summary.arms}
    assert summary.choices == 300 and 0 < summary.random < 120
    assert sum(arm.chosen for arm in arms.values()) == 300 and all(arm.possible == 300 for arm in arms.values())
    assert summary.regret == sorted(summary.regret) and 0.0 <= summary.regret[-1] < 300 * 0.05
    assert summary.regret[-1] - summary.regret[149] < summary.regret[149]  # it learns
    # Both estimates of an arm that is seldom chosen agree with what it brings in this world.
    truth = {}
    for arm in THREE:
        both = [situation(round_trip_s=trip) for trip in (0.001, 0.08)]
        truth[arm.name] = sum(reward(world(arm, here), here, "balanced") for here in both) / 2
    for name, arm_summary in arms.items():
        assert arm_summary.modelled == pytest.approx(truth[name], abs=0.03)
        assert arm_summary.weighted == pytest.approx(truth[name], abs=0.08)


def test_a_log_of_unknown_arms_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="no choices"):
        summarise([record("teleport")], "balanced")
    summary = summarise([record("teleport"), record("draft")], "balanced")
    assert summary.choices == 1


def test_arms_that_were_never_chosen_have_no_mean() -> None:
    arms = {arm.name: arm for arm in summarise([record("draft")], "balanced").arms}
    assert arms["edge"].mean is None and arms["edge"].weighted is None and arms["draft"].mean is not None
