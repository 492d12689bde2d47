"""Compute-optimal choice: a pilot decides who gets how much, and plans are fitted to what paid."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.byte_engine import byte_engine
from tests.fakes.engine import HashEngine
from tests.fakes.verifiers import RuleVerifier
from updraft.errors import ConfigError, InvalidRequest, UnknownName
from updraft.modes import Origin, parse_settings
from updraft.sampling import SamplingParams
from updraft.strategies import Budget, Forks, Outcome, Progress, Sample, Strategy, parse_strategy
from updraft.strategies.choice import Candidate, ComputeOptimal, Plan, Record, fit_plans, load_choice
from updraft.strategies.fit import fit_choice
from updraft.strategies.solve import solve
from updraft.strategies.subject import Attempt, Question, Subject
from updraft.verifiers import Verifier

EASY = [Sample("x A", (1,), -0.01, "A"), Sample("y A", (2,), -0.02, "A")]
HARD = [Sample("x A", (1,), -3.0, "A"), Sample("y B", (2,), -3.0, "B")]
PLANS = (Plan(difficulty=0.2), Plan(difficulty=1.0, strategy="self-consistency", samples=12))


@pytest.fixture
async def subject() -> AsyncIterator[Subject]:
    async with Subject(
        HashEngine(context=512, sequences=8),
        extract=lambda text: text[-1:] or None,
        max_tokens=6,
        sampling=SamplingParams(temperature=1.0),
    ) as subject:
        yield subject


async def run(
    subject: Subject,
    strategy: Strategy,
    *,
    given: Sequence[Sample] = (),
    notes: list[Progress],
    verifier: Verifier | None = None,
    samples: int = 64,
    **limits: Any,
) -> Outcome:
    problem, budget = subject.problem("How?", seed=1, given=given), Budget(samples=samples, **limits)
    return await solve(problem, strategy, budget, subject.forks(1), verifier=verifier, note=notes.append)


async def test_an_easy_question_costs_the_pilot_alone(subject: Subject) -> None:
    notes: list[Progress] = []
    outcome = await run(subject, ComputeOptimal(plans=PLANS), given=EASY, notes=notes)
    assert outcome.sample.answer == "A" and outcome.spent.tokens == 0 and outcome.confidence > 0.8
    [estimate] = [note for note in notes if note.text == "difficulty"]
    assert estimate.value == pytest.approx(outcome.confidence)


async def test_a_hard_one_gets_its_plan_and_the_pilot_votes(subject: Subject) -> None:
    outcome = await run(subject, ComputeOptimal(plans=PLANS), given=HARD, notes=[])
    assert outcome.spent.samples == 12
    assert sum(alternative.samples for alternative in outcome.alternatives) == 14


async def test_the_pilot_begins_with_the_likeliest_answer(subject: Subject) -> None:
    def texts(notes: list[Progress]) -> list[str]:
        return [note.text for note in notes if note.kind == "sample"]

    likeliest, piloted, warm = list[Progress](), list[Progress](), list[Progress]()
    cold = SamplingParams(temperature=0.0)
    problem = replace(subject.problem("How?"), sampling=cold)
    forks = Forks(subject.loop, subject.places, cold)
    await solve(problem, parse_strategy("self-consistency"), Budget(samples=1), forks, note=likeliest.append)
    await run(subject, ComputeOptimal(pilot=3, plans=(Plan(difficulty=1.0),)), notes=piloted)
    await run(subject, ComputeOptimal(pilot=3, greedy=False, plans=(Plan(difficulty=1.0),)), notes=warm)
    assert len(texts(piloted)) == len(texts(warm)) == 3
    assert texts(piloted)[0] == texts(likeliest)[0] != texts(warm)[0]
    assert texts(piloted)[1:] == texts(warm)[1:]


async def test_the_edges_answers_vote_and_do_not_take_the_pilots_place(subject: Subject) -> None:
    estimates = []
    for given in ([], EASY, [replace(sample, origin=Origin.EDGE) for sample in EASY]):
        notes: list[Progress] = []
        outcome = await run(subject, ComputeOptimal(plans=(Plan(difficulty=1.0),)), given=given, notes=notes)
        estimates.append(next(note.value or 0.0 for note in notes if note.text == "difficulty"))
        voters = sum(alternative.samples for alternative in outcome.alternatives) + outcome.unparsed
        assert voters == outcome.spent.samples + len(given)
    nothing, own, others = estimates
    assert nothing == others != own


async def test_an_edge_that_was_unsure_makes_a_question_harder(subject: Subject) -> None:
    estimates = []
    for entropy in (0.0, 2.0):
        notes: list[Progress] = []
        given = [replace(sample, origin=Origin.EDGE, entropy=entropy) for sample in EASY]
        await run(subject, ComputeOptimal(plans=(Plan(difficulty=1.0),)), given=given, notes=notes)
        estimates.append(next(note.value or 0.0 for note in notes if note.text == "difficulty"))
    assert estimates[0] > estimates[1]  # how easy it is


async def test_a_choice_can_be_fitted_with_the_edges_answers(subject: Subject) -> None:
    questions = [Question("How?", "A"), Question("Why?", "B")]
    async with Subject(
        HashEngine(context=512, sequences=8), max_tokens=6, sampling=SamplingParams(temperature=1.0)
    ) as edge:
        strategy = await fit_choice(subject, questions, [Candidate("self-consistency", 4)], edge=edge)
    assert any(strategy.difficulty.weights[5:])
    alone = await fit_choice(subject, questions, [Candidate("self-consistency", 4)])
    assert not any(alone.difficulty.weights[5:])  # nothing can be said of what was not there
    stranger = Subject(byte_engine())
    with pytest.raises(ConfigError, match="another tokenizer"):
        await fit_choice(subject, questions, [], edge=stranger)


@pytest.mark.parametrize("samples", [1, 2, 3, 7])
async def test_no_plan_gets_more_than_the_budget(subject: Subject, samples: int) -> None:
    outcome = await run(subject, ComputeOptimal(plans=PLANS), samples=samples, notes=[])
    assert outcome.spent.samples == samples


UNKNOWN = '{"name": "auto", "plans": [{"difficulty": 1, "strategy": "magic"}]}'


def test_plans_are_refused_with_the_request() -> None:
    with pytest.raises(UnknownName, match="magic"):
        parse_settings({"strategy": json.loads(UNKNOWN)})


async def test_a_pilot_that_stands_says_what_the_verifier_thought_of_it(subject: Subject) -> None:
    for rule, verified in ((lambda claim: 0.9, True), (lambda claim: 0.2, False), (lambda claim: None, None)):
        strategy = ComputeOptimal(plans=(Plan(difficulty=1.0),))
        outcome = await run(subject, strategy, given=EASY, notes=[], verifier=RuleVerifier(rule))
        assert outcome.verified is verified


async def test_too_few_calls_for_the_pilot_do_not_end_the_plan(subject: Subject) -> None:
    for name, settings in (
        ("adaptive", {"judge": "logprob", "gamma": 1.0}),
        ("self-consistency", {"price": 1e-9}),
        ("pipeline", {"pipeline": {"component": [{"kind": "generate", "id": "g", "samples": 6}]}}),
    ):
        plan = Plan(difficulty=1.0, strategy=name, settings=settings, samples=6)
        verifier = RuleVerifier(lambda claim: 0.5)
        outcome = await run(subject, ComputeOptimal(plans=(plan,)), given=HARD, notes=[], verifier=verifier, calls=1)
        assert outcome.spent.samples == 6, name


async def test_the_pilot_is_judged_once(subject: Subject) -> None:
    plan, verifier = Plan(difficulty=1.0, strategy="best-of-n", samples=3), RuleVerifier(lambda claim: 0.4)
    outcome = await run(subject, ComputeOptimal(plans=(plan,)), given=HARD, notes=[], verifier=verifier, calls=5)
    assert outcome.spent.verifier_calls == len(verifier.claims) == 5
    assert all(alternative.score == 0.4 for alternative in outcome.alternatives)


async def test_plans_are_fitted_on_other_answers_than_the_pilots(subject: Subject) -> None:
    given: list[set[str]] = []
    drawn: list[set[str]] = []

    async def attempt(question: Question, strategy: Strategy, budget: Budget, **how: Any) -> Attempt:
        notes: list[Progress] = []
        attempt = await Subject.attempt(subject, question, strategy, budget, note=notes.append, **how)
        given.append({sample.text for sample in how["given"]})
        drawn.append({note.text for note in notes if note.kind == "sample"})
        return attempt

    subject.attempt = attempt  # type: ignore[method-assign]
    await fit_choice(subject, [Question("How?", "A")], [Candidate("self-consistency", 4)], pilot=2)
    assert len(drawn[1]) > 1 and not given[1] & drawn[1]


async def test_plans_are_checked_before_anything_is_spent(subject: Subject) -> None:
    for plan, error in (
        (Plan(difficulty=1, strategy="magic"), UnknownName),
        (Plan(difficulty=1, strategy="auto"), InvalidRequest),
        (Plan(difficulty=1, strategy="self-consistency", settings={"hurry": 1}), InvalidRequest),
        (Plan(difficulty=1, strategy="pipeline", settings={"pipeline": {}}), InvalidRequest),
    ):
        with pytest.raises(error):
            await run(subject, ComputeOptimal(plans=(plan,)), notes=[])
    verify = {"component": [{"kind": "generate", "id": "g"}, {"kind": "verify", "id": "v", "inputs": ["g"]}]}
    with pytest.raises(ConfigError, match="verifier"):
        plan = Plan(difficulty=1, strategy="pipeline", settings={"pipeline": verify})
        await run(subject, ComputeOptimal(plans=(plan,)), notes=[])
    engine = subject.engine
    assert isinstance(engine, HashEngine) and engine.forwards == 0


def test_a_profile_is_the_strategy_as_json() -> None:
    strategy = ComputeOptimal(plans=PLANS)
    assert parse_strategy("auto", strategy.model_dump(mode="json")) == strategy
    settings: list[dict[str, Any]] = [{"plans": [{}]}, {"pilot": 0}, {"difficulty": {"intercept": float("nan")}}]
    for wrong in settings:
        with pytest.raises(InvalidRequest):
            parse_strategy("auto", wrong)


def test_a_choice_is_read_from_its_file(tmp_path: Path) -> None:
    strategy, path = ComputeOptimal(plans=PLANS), tmp_path / "choice.json"
    path.write_text(json.dumps({"name": "auto", **strategy.model_dump(mode="json")}))
    assert load_choice(path) == strategy
    for text in ("", "[]", "{}", '{"name": "rpc"}', '{"name": "auto", "pilot": 0}', UNKNOWN):
        path.write_text(text)
        with pytest.raises(ConfigError):
            load_choice(path)
    with pytest.raises(ConfigError, match="could not be read"):
        load_choice(tmp_path / "missing.json")


def test_without_plans_the_verifier_decides() -> None:
    plain = ComputeOptimal().plans_for(None)
    assert [plan.strategy for plan in plain] == [None, "rpc", "rpc"]
    for steps, name in ((False, "best-of-n"), (True, "particle-filtering")):
        verifier = RuleVerifier(lambda claim: 0.5, steps=steps)
        assert [plan.strategy for plan in ComputeOptimal().plans_for(verifier)] == [None, name, name]


def test_plans_follow_what_paid_in_each_class() -> None:
    stand, much = Candidate(None), Candidate("self-consistency", 16)
    records = [
        Record(place / 100, {stand: (1.0 if place < 50 else 0.0, 100), much: (1.0 if place < 90 else 0.0, 1000)})
        for place in range(100)
    ]
    plans = fit_plans(records, price=0.1, classes=4)
    assert [(plan.strategy, plan.samples) for plan in plans] == [(None, 1), ("self-consistency", 16)]
    assert plans[0].difficulty == pytest.approx(0.495) and plans[-1].difficulty == 1.0
    assert [plan.strategy for plan in fit_plans(records, price=10.0)] == [None]
    assert [plan.strategy for plan in fit_plans(records[:1], price=0.0, classes=8)] == [None]
    with pytest.raises(ValueError, match="no records"):
        fit_plans([], price=0.1)
