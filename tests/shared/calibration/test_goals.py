"""Goals in words, and grids of settings that can be measured."""

from __future__ import annotations

import pytest

from updraft.calibration.goals import Goal, parse_goal
from updraft.calibration.grid import make_grid
from updraft.errors import InvalidRequest
from updraft.modes import Mode


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("share<=0.2", Goal("share", 0.2)),
        ("share <= 20%", Goal("share", 0.2)),
        ("disagreement<=0.05@0.9", Goal("disagreement", 0.05, 0.9)),
        ("disagreement<=5% @ 90%", Goal("disagreement", 0.05, 0.9)),
        ("loss<=0.01", Goal("disagreement", 0.01)),
        ("token_ms<30", Goal("token_ms", 30.0)),
        ("cost<=0.5", Goal("cost", 0.5)),
    ],
)
def test_goals_that_are_understood(text: str, goal: Goal) -> None:
    assert parse_goal(text) == goal
    assert parse_goal(str(goal)) == goal


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "METRIC<=LEVEL"),
        ("share>=0.2", "METRIC<=LEVEL"),
        ("share<=-1", "METRIC<=LEVEL"),
        ("share<=nan", "METRIC<=LEVEL"),
        ("speed<=3", "no 'speed'"),
        ("share<=0", "above 0"),
        ("share<=1.5", "below 1"),
        ("share<=1.2.3", "could not convert"),
        ("token_ms<=0", "above 0"),
        ("token_ms<=30@0.9", "nothing can be promised"),
        ("share<=0.2@1", "the confidence"),
        ("share<=0.2@0.3", "the confidence"),
    ],
)
def test_goals_that_are_none(text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match="The goal") as caught:
        parse_goal(text)
    assert reason in caught.value.message


def test_grids_go_from_cautious_to_bold() -> None:
    cascade = make_grid(Mode.CASCADE)
    assert cascade[0].exact and not any(point.exact for point in cascade[1:])
    assert cascade[0].settings == {"acceptance": {"alpha": 0.0}}
    assert [point.value for point in make_grid(Mode.REASON, [3, 9, 5])] == [9, 5, 3]
    assert [point.value for point in make_grid(Mode.SPAN, [2, 0.5, 2])] == [0.5, 2]


def test_span_hands_back_below_where_it_hands_over() -> None:
    for point in make_grid(Mode.SPAN):
        assert point.settings["span"]["hand_back"] < point.value
    energy = make_grid(Mode.SPAN, [-20.0], {"span": {"score": "energy"}})
    assert energy[0].settings == {"span": {"score": "energy", "escalate": -20.0}}


@pytest.mark.parametrize(
    ("mode", "values", "reason"),
    [
        (Mode.DRAFT, None, "nothing to calibrate"),
        (Mode.ROUTE, None, "needs 1 to 64"),
        (Mode.CASCADE, [0.5, 1.5], "cannot be 1.5"),
        (Mode.SPAN, [float("nan")], "finite"),
        (Mode.SPAN, [0.1 * n for n in range(70)], "1 to 64"),
    ],
)
def test_grids_that_cannot_be_measured(mode: Mode, values: list[float] | None, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        make_grid(mode, values)
