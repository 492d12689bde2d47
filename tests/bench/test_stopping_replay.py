"""The replay of drafting and asking, and the promise of the cost-aware rule on it. Nothing here reads a clock."""

from __future__ import annotations

import random

import pytest

from bench.stopping_replay import Clock, Machine, Outcome, Recording, replay
from updraft.sampling import Distribution, Sampled
from updraft_edge.seams import StopRule
from updraft_edge.stopping.costs import Costs
from updraft_edge.stopping.predictors import Calibration, ScorePredictor, confidence
from updraft_edge.stopping.rules import FixedLength, RateStop

LONGEST = 16
LENGTHS = (2, 3, 4, 6, 8, 10, 12, 16)
# Passes over 1 to 17 positions: one slow core, where every position counts, and a GPU, where hardly any does.
CORE = tuple(0.003 + 0.0115 * positions for positions in range(1, LONGEST + 2))
GPU = tuple(0.008 + 0.0005 * positions for positions in range(1, LONGEST + 2))


def drawn(token: int, top_probability: float = 0.5) -> Sampled:
    return Sampled(token, -1.0, Distribution(0.0, 1.0, top_probability))


def recording(wrong: set[int], length: int = 12) -> Recording:
    """A text of 0, 1, 2, ...; the drafter is wrong at some places."""
    drafts = tuple(drawn(-1 if place in wrong else place) for place in range(length))
    return Recording(tuple(range(length)), drafts, {place: (drawn(-2),) * 20 for place in wrong})


def synthetic(rng: random.Random, length: int, acceptance: float) -> Recording:
    """Tokens that are right with a probability drawn for each, which their confidence tells with some noise."""

    def chance() -> float:
        return rng.betavariate(acceptance * 3, (1 - acceptance) * 3)

    def of(token: int, stands: float) -> Sampled:
        return drawn(token, min(max(stands + rng.gauss(0, 0.1), 0.001), 0.9999))

    drafts, tails = [], {}
    for place in range(length):
        stands = chance()
        right = rng.random() < stands
        drafts.append(of(place if right else -1, stands))
        if not right:
            tails[place] = tuple(of(-2, chance()) for _ in range(2 * LONGEST))
    return Recording(tuple(range(length)), tuple(drafts), tails)


def fixed(one: Recording, length: int, machine: Machine, round_trip_s: float = 0.0, ahead: int = 32) -> Outcome:
    return replay(one, FixedLength(length), Costs(), Clock(), machine, round_trip_s, ahead=ahead)


def test_a_recording_gives_runs_as_the_drafter_would_write_them() -> None:
    one = recording({3}, length=8)
    assert [sampled.token for sampled in one.run(1, 5)] == [1, 2, -1, -2, -2]
    assert [sampled.token for sampled in one.run(4, 9)] == [4, 5, 6, 7]
    assert one.share == 7 / 8


def test_rounds_that_stand_commit_the_run_and_the_clouds_own_token() -> None:
    outcome = fixed(recording(set()), 3, Machine(0.01, (0.05,) * 20))
    assert (outcome.tokens, outcome.rounds, outcome.accepted, outcome.positions) == (12, 3, 9, 12)


def test_a_wrong_token_ends_what_stands() -> None:
    outcome = fixed(recording({1, 2}), 4, Machine(0.01, (0.05,) * 20))
    assert outcome.lengths == [4] * 4 and outcome.accepted == 1 + 0 + 4 + 4


def test_time_is_drafting_plus_asking_where_nothing_can_be_hidden() -> None:
    # Every token is wrong: each round drafts 2 tokens, asks, and begins after the pass that it was in.
    machine = Machine(0.01, (0.0, 0.0, 0.015), overhead_s=0.004)
    outcome = fixed(recording(set(range(3)), length=3), 2, machine, round_trip_s=0.02)
    # A verdict comes 39 ms after asking, 1 ms before the fourth token drafted ahead; the last run has one token.
    assert outcome.seconds == pytest.approx(2 * (0.02 + 0.04) + 0.01 + 0.02 + 0.004)


def test_what_is_drafted_while_waiting_is_used_if_the_run_stands() -> None:
    machine = Machine(0.01, (0.1,) * 20)
    right = fixed(recording(set()), 3, machine)
    # Ten tokens come during each verdict: only the first run is waited for.
    assert right.seconds == pytest.approx(0.03 + 3 * 0.1)
    assert fixed(recording(set()), 3, machine, ahead=3).seconds == pytest.approx(3 * (0.03 + 0.1))


def test_passes_longer_than_measured_are_extrapolated() -> None:
    machine = Machine(0.01, (0.01, 0.012))
    assert machine.pass_s(5) == pytest.approx(0.018)
    assert Machine(0.01, (0.01,)).pass_s(7) == 0.01


def test_figures_are_per_token_and_per_round() -> None:
    row = fixed(recording(set()), 3, Machine(0.01, (0.1,) * 20)).row()
    assert row["mean_accepted"] == 3.0 and row["mean_run"] == 3.0
    assert row["cloud_passes_per_token"] == 0.25 and row["cloud_positions_per_token"] == 1.0


def adaptive(recordings: list[Recording], machine: Machine, round_trip_s: float) -> Outcome:
    costs, clock, total = Costs(), Clock(), Outcome()
    predictor = ScorePredictor(confidence, Calibration())
    for one in recordings:
        rule: StopRule = RateStop(predictor, costs, shortest=1, longest=LONGEST, ready=clock.available, clock=clock)
        total.add(replay(one, rule, costs, clock, machine, round_trip_s, ahead=2 * LONGEST))
    return total


@pytest.mark.parametrize("passes", [CORE, GPU], ids=["core", "gpu"])
@pytest.mark.parametrize("acceptance", [0.3, 0.6, 0.85, 0.95])
def test_cost_aware_runs_are_within_three_per_cent_of_the_best_length_on_every_link(
    acceptance: float, passes: tuple[float, ...]
) -> None:
    rng, machine = random.Random(1), Machine(0.007, passes, overhead_s=0.002)
    recordings = [synthetic(rng, 96, acceptance) for _ in range(16)]
    means: dict[int, float] = dict.fromkeys(LENGTHS, 1.0)
    mean = 1.0
    for round_trip_s in (0.0, 0.02, 0.04, 0.08):
        times: dict[int, float] = {}
        for length in LENGTHS:
            total = Outcome()
            for one in recordings:
                total.add(fixed(one, length, machine, round_trip_s))
            times[length] = total.seconds
        own = adaptive(recordings, machine, round_trip_s).seconds
        assert own <= 1.03 * min(times.values()), f"{1e3 * round_trip_s:g} ms"
        mean *= own
        means = {length: means[length] * times[length] for length in LENGTHS}
    assert mean < min(means.values()), "better than any one length across links"


def test_it_follows_a_link_that_changes_within_an_answer() -> None:
    rng, machine = random.Random(2), Machine(0.007, GPU)
    costs, clock, predictor = Costs(), Clock(), ScorePredictor(confidence, Calibration())

    def run_length(round_trip_s: float) -> float:
        rule = RateStop(predictor, costs, shortest=1, longest=LONGEST, ready=clock.available, clock=clock)
        one = synthetic(rng, 96, 0.9)
        return replay(one, rule, costs, clock, machine, round_trip_s, ahead=2 * LONGEST).row()["mean_run"]

    lengths = [run_length(seconds) for seconds in (0.0, 0.0, 0.1, 0.1, 0.0, 0.0)]
    assert min(lengths[2:4]) > 2 * max(lengths[1], lengths[5])
