"""Stop rules: how long runs get, and what is learned from verdicts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.mode_settings import StopSettings
from updraft.sampling import Distribution, Sampled
from updraft_edge.stop_rules import (
    AcceptanceEstimate,
    Costs,
    EntropyStop,
    FixedLength,
    RejectionRisk,
    WhileReady,
    make_stop_rule,
)


def token(top_probability: float = 0.5, entropy: float = 1.0) -> Sampled:
    return Sampled(1, -1.0, Distribution(0.0, entropy, top_probability))


def length(rule: FixedLength | EntropyStop | RejectionRisk, tokens: list[Sampled]) -> int:
    """Where a rule ends a run that could go on through `tokens`."""
    for count in range(1, len(tokens) + 1):
        if rule.ends(tokens[:count]):
            return count
    return len(tokens)


def test_fixed_runs_have_one_length() -> None:
    assert length(FixedLength(6), [token()] * 20) == 6


def test_entropy_runs_end_at_the_first_unsure_token_or_at_the_longest() -> None:
    tokens = [token(entropy=0.5)] * 3 + [token(entropy=2.5)] + [token(entropy=0.5)] * 9
    assert length(EntropyStop(2.0, 12), tokens) == 4
    assert length(EntropyStop(3.0, 12), tokens) == 12


def test_risk_runs_are_longer_where_tokens_are_surer() -> None:
    estimate = AcceptanceEstimate()
    rule = RejectionRisk(estimate, lambda: 0.6, shortest=1, longest=16)
    sure, unsure = length(rule, [token(0.99)] * 20), length(rule, [token(0.2)] * 20)
    assert unsure < sure <= 16


def test_risk_runs_keep_their_bounds() -> None:
    never, always = lambda: 1.0, lambda: 0.0
    assert length(RejectionRisk(AcceptanceEstimate(), never, shortest=2, longest=9), [token(0.1)] * 20) == 9
    assert length(RejectionRisk(AcceptanceEstimate(), always, shortest=3, longest=9), [token(0.9)] * 20) == 3


def test_the_estimate_converges_to_the_share_that_stood() -> None:
    estimate, rng = AcceptanceEstimate(), random.Random(0)
    for _ in range(3000):
        estimate.learn(0.35, rng.random() < 0.8)
        estimate.learn(0.95, rng.random() < 0.5)
    assert estimate(0.38) == pytest.approx(0.8, abs=0.04)
    assert estimate(0.91) == pytest.approx(0.5, abs=0.04)


def test_only_judged_tokens_are_learned_from() -> None:
    estimate = AcceptanceEstimate()
    rule = RejectionRisk(estimate, lambda: 0.5, shortest=1, longest=16)
    before = estimate(0.75)
    rule.learn([token(0.15), token(0.75), token(0.75)], accepted=0)
    assert estimate(0.75) == before
    assert estimate(0.15) < AcceptanceEstimate()(0.15)


@given(st.floats(0.0, 1.0))
def test_estimates_are_probabilities_for_any_confidence(top_probability: float) -> None:
    assert 0.0 <= AcceptanceEstimate()(top_probability) <= 1.0


def test_costs_are_learned_as_a_round_and_a_price_for_each_token() -> None:
    costs, rng = Costs(), random.Random(1)
    for _ in range(2000):
        run = rng.randint(1, 12)
        costs.note_verdict(run, 0.040 + 0.003 * run + rng.uniform(-0.001, 0.001))
        costs.note_draft(0.005)
    assert costs.position_s == pytest.approx(0.003, rel=0.25)
    assert costs.round_s == pytest.approx(0.040, rel=0.1)
    assert costs.draft_s == pytest.approx(0.005, rel=0.01)


def test_a_longer_round_trip_makes_longer_runs() -> None:
    def threshold(round_trip: float) -> float:
        costs = Costs()
        for index in range(500):
            run = 4 + index % 5
            costs.note_verdict(run, round_trip + 0.002 * run)
        return costs.threshold

    assert threshold(0.005) < threshold(0.04) < threshold(0.2) < 1.0


def test_runs_of_one_length_leave_the_price_of_a_token_alone() -> None:
    costs = Costs()
    for _ in range(500):
        costs.note_verdict(5, 0.02)
    assert costs.round_s > 0
    assert 0 <= costs.position_s < 0.02


def test_while_ready_takes_what_there_is() -> None:
    ready = [True, True, False]
    rule = WhileReady(lambda: ready.pop(0))
    assert [rule.ends([token()] * count) for count in (1, 2, 3)] == [False, False, True]


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (StopSettings(rule="fixed"), FixedLength),
        (StopSettings(rule="entropy"), EntropyStop),
        (StopSettings(rule="risk"), RejectionRisk),
    ],
)
def test_settings_name_the_rule(settings: StopSettings, kind: type) -> None:
    assert isinstance(make_stop_rule(settings, AcceptanceEstimate(), Costs()), kind)
