"""Stop rules: how long runs get, and what is learned from verdicts."""

from __future__ import annotations

import pytest

from updraft.mode_settings import StopSettings
from updraft.sampling import Distribution, Sampled
from updraft_edge.seams import StopRule
from updraft_edge.stopping.costs import Costs
from updraft_edge.stopping.predictors import Calibration, ScorePredictor, confidence
from updraft_edge.stopping.rules import (
    EntropyStop,
    FixedLength,
    RateStop,
    RejectionRisk,
    WhileReady,
    at_most,
    make_stop_rule,
)


def token(top_probability: float = 0.5, entropy: float = 1.0) -> Sampled:
    return Sampled(1, -1.0, Distribution(0.0, entropy, top_probability))


def predictor(stands: float | None = None) -> ScorePredictor:
    """One that has learned nothing; or that has learned that tokens of confidence 0.5 stand with this probability."""
    made = ScorePredictor(confidence, Calibration())
    for index in range(400 if stands is not None else 0):
        made.learn([token()], accepted=index % 20 < 20 * (stands or 0.0))
    return made


def length(rule: StopRule, tokens: list[Sampled]) -> int:
    """Where a rule ends a run that could go on through `tokens`."""
    for count in range(1, len(tokens) + 1):
        if rule.ends(tokens[:count]):
            return count
    return len(tokens)


def rate_stop(
    stands: float, *, network_s: float = 0.02, ready: bool = False, draft_s: float = 0.01, longest: int = 40
) -> RateStop:
    """A rule that has written many rounds of runs that stand with this probability."""
    costs = Costs(draft_s=draft_s)
    made = RateStop(predictor(stands), costs, shortest=1, longest=longest, ready=lambda: ready, clock=lambda: 0.0)
    for index in range(300):
        run = 1 + index % 6
        costs.note_verdict(run + 1, network_s + 0.02 + 0.002 * (run + 1), 0.02 + 0.002 * (run + 1))
        costs.note_round(1 + round(sum(stands**j for j in range(1, run + 1))), run, run * draft_s)
    return made


def test_fixed_runs_have_one_length() -> None:
    assert length(FixedLength(6), [token()] * 20) == 6


def test_entropy_runs_end_at_the_first_unsure_token_or_at_the_longest() -> None:
    tokens = [token(entropy=0.5)] * 3 + [token(entropy=2.5)] + [token(entropy=0.5)] * 9
    assert length(EntropyStop(2.0, 12), tokens) == 4
    assert length(EntropyStop(3.0, 12), tokens) == 12


def test_risk_runs_are_longer_where_tokens_are_surer() -> None:
    rule = RejectionRisk(predictor(), lambda: 0.6, shortest=1, longest=16)
    sure, unsure = length(rule, [token(0.99)] * 20), length(rule, [token(0.2)] * 20)
    assert unsure < sure <= 16


def test_risk_runs_keep_their_bounds() -> None:
    never, always = lambda: 1.0, lambda: 0.0
    assert length(RejectionRisk(predictor(), never, shortest=2, longest=9), [token(0.1)] * 20) == 9
    assert length(RejectionRisk(predictor(), always, shortest=3, longest=9), [token(0.9)] * 20) == 3


def test_each_token_is_predicted_once_a_run() -> None:
    asked: list[Sampled] = []

    def score(sampled: Sampled) -> float:
        asked.append(sampled)
        return 0.9

    rule = RejectionRisk(ScorePredictor(score, Calibration()), lambda: 1.0, shortest=1, longest=16)
    length(rule, [token()] * 8)
    assert len(asked) == 8
    length(rule, [token()] * 8)  # another run that begins anew, without a verdict between
    assert len(asked) == 16


def test_runs_get_shorter_as_acceptance_falls() -> None:
    lengths = [length(rate_stop(stands), [token()] * 40) for stands in (0.95, 0.8, 0.6, 0.3)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 5 > 3 > lengths[-1] >= 1


def test_runs_get_longer_as_the_round_trip_grows() -> None:
    lengths = [length(rate_stop(0.9, network_s=seconds), [token()] * 40) for seconds in (0.0, 0.02, 0.08, 0.3)]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_tokens_that_are_ready_are_taken_sooner_than_tokens_to_wait_for() -> None:
    waiting, ready = (length(rate_stop(0.85, ready=ready), [token()] * 40) for ready in (False, True))
    assert waiting < ready


def test_dear_drafts_make_short_runs() -> None:
    cheap, dear = (length(rate_stop(0.85, draft_s=seconds), [token()] * 40) for seconds in (0.002, 0.05))
    assert dear < cheap


def test_no_run_is_longer_than_the_cloud_takes() -> None:
    settings = StopSettings(rule="fixed", length=30, shortest=12, longest=40)
    cut = at_most(settings, 9)
    assert (cut.length, cut.shortest, cut.longest) == (9, 9, 9)
    assert at_most(settings, 0) == at_most(settings, 63) == settings


def test_while_ready_takes_what_there_is() -> None:
    ready = [True, True, False]
    rule = WhileReady(lambda: ready.pop(0))
    assert [rule.ends([token()] * count) for count in (1, 2, 3)] == [False, False, True]


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (StopSettings(rule="fixed"), FixedLength),
        (StopSettings(rule="entropy"), EntropyStop),
        (StopSettings(rule="risk"), RateStop),
        (StopSettings(rule="risk", risk=0.4), RejectionRisk),
    ],
)
def test_settings_name_the_rule(settings: StopSettings, kind: type) -> None:
    assert isinstance(make_stop_rule(settings, predictor(), Costs(), lambda: False), kind)
