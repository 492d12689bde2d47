"""Costs: what drafting and asking cost, learned from what was measured."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft_edge.stopping.costs import Costs


def after_verdicts(network_s: float, base_s: float, position_s: float, *, count: int = 500) -> Costs:
    costs, rng = Costs(), random.Random(1)
    for _ in range(count):
        positions = rng.randint(2, 12)
        worked = base_s + position_s * positions + rng.uniform(-0.0005, 0.0005)
        costs.note_verdict(positions, network_s + worked, worked)
    return costs


def test_link_base_and_position_are_told_apart() -> None:
    costs = after_verdicts(0.04, 0.02, 0.003)
    assert costs.network_s == pytest.approx(0.04, rel=0.05)
    assert costs.position_s == pytest.approx(0.003, rel=0.25)
    assert costs.cloud_s == pytest.approx(0.02, rel=0.3)
    assert costs.verdict_s(5) == pytest.approx(0.04 + 0.02 + 6 * 0.003, rel=0.05)


def test_drafts_are_averaged_and_a_pause_is_no_price() -> None:
    costs = Costs()
    for _ in range(400):
        costs.note_draft(0.005)
    costs.note_draft(3.0)
    assert costs.draft_s == pytest.approx(0.005, rel=0.2)


def test_a_change_of_the_link_is_known_after_three_verdicts() -> None:
    costs = after_verdicts(0.002, 0.02, 0.003)
    before = costs.rate
    for _ in range(3):
        costs.note_verdict(5, 0.08 + 0.035, 0.035)
    assert costs.network_s == pytest.approx(0.08, rel=0.01)
    assert costs.rate < 0.7 * before


def test_one_late_verdict_changes_no_link() -> None:
    costs = after_verdicts(0.002, 0.02, 0.003)
    costs.note_verdict(5, 2.0, 0.035)
    assert costs.network_s == pytest.approx(0.002, rel=0.05)


def test_runs_of_one_length_leave_the_price_of_a_position_below_its_share() -> None:
    costs = Costs()
    for _ in range(500):
        costs.note_verdict(6, 0.03, 0.02)
    assert 0.0 <= costs.position_s <= 0.02 / 6
    assert costs.verdict_s(5) == pytest.approx(0.03, rel=0.05)


def test_the_rate_is_tokens_over_what_a_round_costs() -> None:
    costs = after_verdicts(0.04, 0.02, 0.003)
    for _ in range(300):
        costs.note_round(4, 5, 0.03)
    assert costs.rate == pytest.approx(4 / (0.03 + 0.04 + 0.02 + 6 * 0.003), rel=0.06)


def test_a_slow_reader_is_no_cost_of_drafting() -> None:
    costs = Costs(draft_s=0.005)
    for _ in range(100):
        costs.note_round(4, 5, 60.0)
    assert costs.rate > 10


def test_the_threshold_is_spec_decs_and_grows_with_the_round_trip() -> None:
    near, far = (after_verdicts(seconds, 0.02, 0.003) for seconds in (0.001, 0.2))
    assert near.threshold < far.threshold < 1.0
    assert near.threshold == pytest.approx(near.round_s / (near.round_s + near.draft_s + near.position_s))


@given(
    st.lists(
        st.tuples(st.integers(-5, 60), st.floats(allow_nan=True), st.floats(allow_nan=True)), min_size=1, max_size=30
    )
)
def test_costs_stay_usable_whatever_is_measured(verdicts: list[tuple[int, float, float]]) -> None:
    costs = Costs()
    for positions, seconds, worked in verdicts:
        costs.note_verdict(positions, seconds, worked)
        costs.note_draft(seconds)
        costs.note_round(max(1, positions), abs(positions), worked if math.isfinite(worked) else 0.0)
    assert 0.0 < costs.rate < math.inf
    assert costs.position_s >= 0.0 and costs.draft_s >= 0.0 and costs.cloud_s > 0.0
    assert 0.0 < costs.threshold <= 1.0
