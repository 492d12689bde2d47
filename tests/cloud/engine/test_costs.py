"""What passes cost: the line is found through noise and outliers, followed when it moves, and never below 0."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.engine.loop import PassRecord, Share
from updraft_cloud.engine.costs import PassCosts


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def a_pass(seconds: float, positions: int = 4, *, rest: float = 0.0) -> PassRecord:
    half = positions // 2
    shares = (Share(1, half), Share(1, positions - half), Share(), Share())
    return PassRecord(seconds, *shares, waiting=0, consumed_s=rest / 2, overhead_s=rest / 2)


def fed(count: int = 300, *, pass_s: float = 0.02, position_s: float = 0.003, seed: int = 1) -> PassCosts:
    costs, rng = PassCosts(), random.Random(seed)
    for _ in range(count):
        feed(costs, rng, pass_s, position_s)
    return costs


def feed(costs: PassCosts, rng: random.Random, pass_s: float, position_s: float) -> None:
    positions = rng.randint(1, 24)
    costs.note(a_pass((pass_s + position_s * positions) * rng.uniform(0.95, 1.05), positions))


def test_the_line_is_found() -> None:
    costs = fed()
    assert costs.pass_s == pytest.approx(0.02, rel=0.2)
    assert costs.position_s == pytest.approx(0.003, rel=0.1)


def test_draws_and_the_loop_count_as_part_of_a_turn() -> None:
    costs = PassCosts()
    for positions in range(1, 40):
        costs.note(a_pass(0.01, positions, rest=0.002 * positions))
    assert costs.pass_s == pytest.approx(0.01, rel=0.01)
    assert costs.position_s == pytest.approx(0.002, rel=0.01)


def test_nothing_is_said_before_enough_is_known() -> None:
    costs = PassCosts()
    assert costs.cost() is None
    for _ in range(8):
        costs.note(a_pass(0.01))
    told = costs.cost(3)
    assert told is not None and told.sessions == 3
    assert told.pass_micros == 10_000 and told.position_micros == 0


def test_a_pause_of_the_machine_moves_nothing() -> None:
    costs = fed()
    before = costs.pass_s, costs.position_s
    costs.note(a_pass(5.0, 24))
    assert costs.pass_s == pytest.approx(before[0], rel=0.3)
    assert costs.position_s == pytest.approx(before[1], rel=0.1)


def test_a_lasting_change_is_followed() -> None:
    costs, rng = fed(), random.Random(2)
    for _ in range(800):
        feed(costs, rng, 0.2, 0.03)
    assert costs.pass_s == pytest.approx(0.2, rel=0.3)
    assert costs.position_s == pytest.approx(0.03, rel=0.15)


def test_a_line_that_fitted_exactly_can_be_left() -> None:
    costs = PassCosts()
    for _ in range(100):
        costs.note(a_pass(0.01))
    for _ in range(500):
        costs.note(a_pass(0.03))
    assert costs.pass_s + 4 * costs.position_s == pytest.approx(0.03, rel=0.05)


def test_passes_of_one_size_leave_the_slope_as_it_was() -> None:
    costs = fed()
    slope = costs.position_s
    for _ in range(2000):
        costs.note(a_pass(0.02 + 0.003 * 16, 16))
    assert costs.position_s == pytest.approx(slope, rel=0.2)


def test_the_load_is_the_share_of_time_that_passes_took() -> None:
    time = Time()
    costs = PassCosts(time)
    for _ in range(100):
        time.now += 0.1
        costs.note(a_pass(0.05))
    assert costs.load == pytest.approx(0.5, abs=0.01)
    for _ in range(100):
        time.now += 0.1
        costs.note(a_pass(0.1))
    assert costs.load == pytest.approx(1.0, abs=0.01)
    time.now += 10.0
    assert costs.load < 0.001


@given(st.lists(st.tuples(st.floats(), st.integers(-3, 5000)), max_size=40))
def test_whatever_is_noted_a_cost_can_be_told(passes: list[tuple[float, int]]) -> None:
    costs = PassCosts()
    for seconds, positions in passes:
        costs.note(a_pass(seconds, positions))
    assert costs.pass_s >= 0.0 and costs.position_s >= 0.0 and 0.0 <= costs.load <= 1.0
    assert math.isfinite(costs.pass_s + costs.position_s)
    told = costs.cost(1)
    assert told is None or 0 <= told.pass_micros < 2**32
