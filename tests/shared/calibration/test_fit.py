"""A goal chooses the setting that meets it, says what it promises, or names the nearest goal that can be met."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.shared.calibration.tables import table
from updraft.calibration.fit import certified, choose
from updraft.calibration.goals import parse_goal
from updraft.calibration.grid import GridPoint
from updraft.errors import GoalUnreachable

POINTS = [GridPoint(value, {"acceptance": {"alpha": value}}) for value in (0.1, 0.3, 0.5, 0.9)]
RISKS = (0.0, 0.02, 0.1, 0.4)
SHARES = (0.6, 0.3, 0.1, 0.05)


def losses(prompts: int, seed: int = 0) -> NDArray[np.float64]:
    hard = np.random.default_rng(seed).uniform(size=(prompts, 1))
    return np.asarray((hard < np.array(RISKS)) * 1.0)


@pytest.mark.parametrize(
    ("goal", "value"),
    [
        ("disagreement<=0.05@0.9", 0.3),
        ("disagreement<=0.2@0.9", 0.5),
        ("loss<=0.05", 0.3),
        ("mismatch<=0.05", 0.9),  # nothing differs in this table
        ("share<=0.2", 0.5),
        ("share<=0.4@0.9", 0.3),
        ("share<=0.9@0.9", 0.1),  # as much of the cloud as the goal allows
    ],
)
def test_the_goal_chooses_the_setting(goal: str, value: float) -> None:
    fit = choose(parse_goal(goal), table(losses(400), SHARES), POINTS)
    assert POINTS[fit.chosen].value == value
    assert "400 prompts" in fit.guarantee


def test_the_guarantee_says_what_it_is() -> None:
    data = table(losses(400), SHARES)
    sure = choose(parse_goal("disagreement<=0.05@0.9"), data, POINTS).guarantee
    assert "probability 0.9" in sure and "at most 0.05" in sure and "2110.01052" in sure
    mean = choose(parse_goal("loss<=0.05"), data, POINTS).guarantee
    assert "on average" in mean and "2208.02814" in mean
    following = choose(parse_goal("disagreement<=0.05@0.9"), data, POINTS, horizon=50).guarantee
    assert "next 50 prompts" in following


def test_time_is_measured_and_not_promised() -> None:
    data = table(losses(50), SHARES, seconds=[0.5, 0.3, 0.2, 0.1])
    fit = choose(parse_goal("token_ms<=30"), data, POINTS)
    assert POINTS[fit.chosen].value == 0.3  # within the goal, and nearest to the cloud's text
    assert fit.guarantee.startswith("None:")
    with pytest.raises(GoalUnreachable, match="token_ms<=10"):
        choose(parse_goal("token_ms<=5"), data, POINTS)


def test_too_few_prompts_say_how_many_are_needed() -> None:
    with pytest.raises(GoalUnreachable) as caught:
        choose(parse_goal("disagreement<=0.05@0.9"), table(losses(12), SHARES), POINTS)
    assert "At least 45 prompts" in caught.value.message
    nearest = caught.value.message.partition("one meets is ")[2].partition("@")[0]
    assert choose(parse_goal(f"{nearest}@0.9"), table(losses(12), SHARES), POINTS).chosen >= 0
    with pytest.raises(GoalUnreachable, match="At least 99 prompts"):
        choose(parse_goal("loss<=0.01"), table(losses(12), SHARES), POINTS)


def test_a_goal_out_of_reach_names_the_nearest() -> None:
    bad = table(np.full((300, 4), 0.5), SHARES)
    with pytest.raises(GoalUnreachable, match=r"nearest goal that one meets is disagreement<=0\.5"):
        choose(parse_goal("disagreement<=0.1@0.9"), bad, POINTS)
    with pytest.raises(GoalUnreachable, match=r"share<=0\.05"):
        choose(parse_goal("share<=0.01"), table(losses(400), SHARES), POINTS)


def test_a_lossless_setting_meets_every_goal_on_quality() -> None:
    points = [GridPoint(0.0, {}, exact=True), *POINTS[1:]]
    for goal in ("disagreement<=0.01@0.99", "loss<=0.001"):
        fit = choose(parse_goal(goal), table(losses(3, seed=5), SHARES), points)
        assert fit.chosen == 0
        assert "by construction" in fit.guarantee


@pytest.mark.parametrize("goal", ["disagreement<=0.3@0.9", "disagreement<=0.3"])
def test_the_certified_level_is_the_least_that_is_met(goal: str) -> None:
    asked, column = parse_goal(goal), losses(120)[:, 2]
    level = certified(asked, column)
    assert column.mean() < level < 0.3
    one = [GridPoint(0.5, {})]
    data = table(column[:, None], [0.1])
    assert choose(asked.at(level), data, one).chosen == 0
    with pytest.raises(GoalUnreachable):
        choose(asked.at(level - 0.001), data, one)
