"""Efforts become plans, requests have the last word, and a cloud's limits cut what nobody asked for."""

from __future__ import annotations

from itertools import pairwise

import pytest

from updraft.errors import InvalidRequest, UnknownName
from updraft.modes import Effort, Mode, ModeSettings, parse_settings
from updraft.strategies.effort import EFFORTS, plan_of


def test_more_effort_never_buys_less() -> None:
    worths = [EFFORTS[effort] for effort in Effort]
    assert all(one.samples < other.samples for one, other in pairwise(worths))
    assert worths[0].samples == 1 and worths[0].edge_samples == 0
    for effort in Effort:
        plan = plan_of(ModeSettings(mode=Mode.SOLVE, effort=effort), 100)
        assert plan.budget.samples == EFFORTS[effort].samples
        assert plan.budget.tokens == 100 * plan.budget.samples and plan.chosen == {"samples", "tokens"}


def test_what_a_request_says_comes_first() -> None:
    given = {
        "effort": "low",
        "strategy": {"name": "adaptive", "wave": 2},
        "budget": {"samples": 3, "seconds": 2.5},
        "solve": {"edge_samples": 0, "threshold": 0.2},
    }
    plan = plan_of(parse_settings(given), 50)
    assert plan.strategy.name == "adaptive" and plan.strategy.model_dump()["wave"] == 2
    assert (plan.budget.samples, plan.budget.tokens, plan.budget.seconds) == (3, 150, 2.5)
    assert (plan.edge_samples, plan.threshold, set(plan.chosen)) == (0, 0.2, {"tokens"})


def test_a_verifier_without_a_strategy_leads_the_choice() -> None:
    plan = plan_of(parse_settings({"effort": "medium", "verifier": "logprob"}), 50)
    assert plan.strategy.name == "auto" and plan.verifier == {"kind": "logprob"}


def test_a_pipeline_takes_the_calls_that_it_names_unless_the_request_names_samples() -> None:
    strategy = {"name": "pipeline", "pipeline": {"calls": 20, "component": [{"kind": "generate", "id": "g"}]}}
    plan = plan_of(parse_settings({"strategy": strategy}), 100)
    assert (plan.budget.samples, plan.budget.tokens) == (20, 2000)
    plan = plan_of(parse_settings({"strategy": strategy, "budget": {"samples": 3}}), 100)
    assert (plan.budget.samples, plan.budget.tokens) == (3, 300)


def test_a_clouds_limits_cut_what_the_effort_chose_alone() -> None:
    chosen = plan_of(parse_settings({"effort": "max"}), 100).within(samples=8, tokens=500)
    assert (chosen.budget.samples, chosen.budget.tokens) == (8, 500)
    asked = plan_of(parse_settings({"effort": "max", "budget": {"samples": 20, "tokens": 900}}), 100)
    assert asked.within(samples=8, tokens=500).budget == asked.budget
    assert asked.within(samples=8, tokens=500, room=40).budget.tokens == 40
    assert asked.within(samples=8, tokens=500, room=0).budget.tokens == 1


@pytest.mark.parametrize(
    ("given", "error", "param"),
    [
        ({"strategy": "guess"}, UnknownName, "updraft.strategy"),
        ({"strategy": {"name": "best-of-n"}}, InvalidRequest, "updraft.verifier"),
        ({"effort": "low", "verifier": "guess"}, UnknownName, "updraft.verifier"),
        ({"effort": "low", "verifier": {"kind": "logprob", "wrong": 1}}, InvalidRequest, "updraft.verifier.wrong"),
        ({"strategy": {"settings": {}}}, InvalidRequest, "updraft.strategy"),
        ({"effort": "low", "mode": "cloud"}, InvalidRequest, "updraft.effort"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(given: dict[str, object], error: type[Exception], param: str) -> None:
    with pytest.raises(error) as caught:
        parse_settings(given)
    assert getattr(caught.value, "param", None) == param


def test_effort_over_a_default_mode_is_solve_and_none_is_the_default() -> None:
    defaults = ModeSettings(mode=Mode.SPAN)
    assert parse_settings({"effort": "low"}, defaults).mode is Mode.SOLVE
    assert parse_settings({"effort": "none"}, defaults).mode is Mode.SPAN
    assert ModeSettings(effort=Effort.HIGH).mode is Mode.SOLVE
    over = parse_settings(
        {"strategy": "rpc"}, ModeSettings.model_validate({"strategy": {"name": "adaptive", "wave": 3}})
    )
    assert over.strategy == "rpc"
