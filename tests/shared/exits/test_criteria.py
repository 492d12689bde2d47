from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shared.exits.examples import WIDTH, constant_head, trace_of, view
from updraft.errors import ConfigError
from updraft.exits.calibration import ExitCalibration
from updraft.exits.criteria import ExitVerdict, make_criterion
from updraft.exits.isotonic import Curve
from updraft.exits.scores import SCORES, ExitView, ScoreName

STAY, EXIT, HAND_OVER = ExitVerdict.STAY, ExitVerdict.EXIT, ExitVerdict.HAND_OVER

# P(agree) is the score itself, and 0.1 more with a deeper exit.
EVEN = Curve((0.0, 1.0), (0.0, 1.0), 100)
BETTER = Curve((0.0, 1.0), (0.1, 1.0), 100)
CALIBRATION = ExitCalibration(
    "model",
    {(stage, name): EVEN for stage in range(3) for name in SCORES},
    {(stage, name): BETTER for stage in range(3) for name in SCORES},
)
HEADS = {stage: constant_head(0.999, 0.001) for stage in range(3)}

VIEWS = st.builds(
    lambda token, top, entropy: (token, top, entropy), st.integers(0, 2), st.floats(0, 1), st.floats(0, 12)
)
TRACES = st.lists(VIEWS, min_size=1, max_size=3).map(
    lambda items: [
        view(stage, token=token, top=top, entropy=entropy, features=np.zeros(WIDTH, np.float32))
        for stage, (token, top, entropy) in enumerate(items)
    ]
)
NAMES = st.sampled_from(SCORES)


def criterion(name: ScoreName, threshold: float, **changes: Any) -> Any:
    return make_criterion(name, threshold=threshold, **{"calibration": CALIBRATION, "heads": HEADS, **changes})


@given(NAMES, TRACES, st.booleans(), st.integers(1, 3), st.floats(0, 1))
def test_threshold_1_never_leaves_whatever_the_criterion(
    name: ScoreName, trace: list[ExitView], calibrated: bool, patience: int, q: float
) -> None:
    never = criterion(name, 1.0, calibrated=calibrated, patience=patience, q=q)
    assert never.judge(trace) is STAY


@given(NAMES, TRACES, st.booleans(), st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_who_leaves_at_a_threshold_leaves_at_every_lower_one(
    name: ScoreName, trace: list[ExitView], calibrated: bool, thresholds: list[float]
) -> None:
    low, high = (criterion(name, t, q=t, calibrated=calibrated).judge(trace) for t in thresholds)
    assert not (high is EXIT and low is STAY)


def test_probability_must_be_strictly_above_the_threshold() -> None:
    assert criterion("probability", 0.8).judge([view(top=0.8)]) is STAY
    assert criterion("probability", 0.8).judge([view(top=0.81)]) is EXIT


def test_the_threshold_of_the_entropy_is_minus_its_logarithm_in_nats() -> None:
    judge = criterion("entropy", math.exp(-0.5)).judge
    assert judge([view(entropy=0.49)]) is EXIT
    assert judge([view(entropy=0.51)]) is STAY


def test_patience_waits_for_as_many_exits_in_a_row() -> None:
    assert criterion("patience", 0.0, patience=1).judge(trace_of([3, 3])) is EXIT
    assert criterion("patience", 0.0, patience=2).judge(trace_of([3, 3])) is STAY
    assert criterion("patience", 0.0, patience=2).judge(trace_of([3, 3, 3])) is EXIT
    assert criterion("patience", 0.0, patience=2).judge(trace_of([2, 3, 3])) is STAY


def test_q_exit_leaves_at_the_first_exit_where_the_mass_is_above_q() -> None:
    heads = {0: constant_head(0.3), 1: constant_head(0.4)}  # masses 0.3 and 0.58
    features = np.zeros(WIDTH, np.float32)
    trace = [view(0, features=features), view(1, features=features)]
    judge = criterion("q", 0.0, q=0.5, heads=heads).judge
    assert (judge(trace[:1]), judge(trace)) == (STAY, EXIT)


def test_a_calibrated_threshold_is_for_the_probability_of_agreeing() -> None:
    humble = Curve((0.0, 1.0), (0.0, 0.5), 100)
    calibration = ExitCalibration("model", {(0, "probability"): humble}, {(0, "probability"): humble})
    judge = criterion("probability", 0.4, calibration=calibration, calibrated=True).judge
    assert judge([view(top=0.75)]) is STAY
    assert judge([view(top=0.85)]) is EXIT


def test_who_has_no_outlook_is_handed_over_and_who_is_confident_still_leaves() -> None:
    judge = criterion("probability", 0.9, hand_over=0.3).judge
    assert judge([view(top=0.1)]) is HAND_OVER  # outlook 0.19
    assert judge([view(top=0.3)]) is STAY  # outlook 0.37
    assert judge([view(top=0.95)]) is EXIT
    assert criterion("probability", 1.0, hand_over=0.3).judge([view(top=0.1)]) is HAND_OVER


def test_a_heads_second_probability_hands_over() -> None:
    trace = [view(features=np.zeros(WIDTH, np.float32))]
    for hopeless, verdict in ((0.8, HAND_OVER), (0.6, STAY)):
        heads = {0: constant_head(0.1, hopeless)}
        assert criterion("q", 0.5, heads=heads, hand_over=0.3).judge(trace) is verdict
        assert criterion("probability", 0.5, heads=heads, calibration=None, hand_over=0.3).judge(trace) is verdict


@given(TRACES, st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_who_is_handed_over_at_a_floor_is_at_every_higher_one(trace: list[ExitView], floors: list[float]) -> None:
    low, high = (criterion("probability", 0.9, hand_over=floor).judge(trace) for floor in floors)
    assert low is not HAND_OVER or high is HAND_OVER


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calibrated": True}, "calibration.json"),
        ({"hand_over": 0.1}, "calibration.json or trained exit heads"),
        ({"name": "q"}, "exit heads"),
    ],
)
def test_what_a_criterion_needs_and_the_model_lacks_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_criterion(**{"name": "probability", "threshold": 0.8, **changes})
