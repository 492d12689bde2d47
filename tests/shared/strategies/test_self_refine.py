"""Self-refine: rounds of critique and rewriting, and when they end."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.fakes.scripted_engine import ScriptedEngine, spoken
from tests.fakes.verifiers import RuleVerifier
from tests.shared.strategies.solving import work_on
from updraft.strategies import Budget, Progress, Sample
from updraft.strategies.self_refine import SelfRefine, finds_nothing

CRITIC, WRITER = "End with one line", "Write a better answer"


def talk(*answers: str, verdict: str = "Verdict: wrong", right: str = "never") -> ScriptedEngine:
    """A model that gives `answers` one after another, whatever it is told, and finds fault with all but `right`."""

    def script(text: str) -> Mapping[str, float]:
        asked, _, said = text.rpartition("assistant\n")
        if CRITIC in asked:
            shown = asked.split("Proposed answer:\n")[1].split("\n")[0]
            return spoken("Verdict: correct" if shown == right else verdict, said)
        if WRITER in asked:
            shown = asked.split("Proposed answer:\n")[1].split("\n")[0]
            return spoken(answers[answers.index(shown) + 1], said)
        return spoken(answers[0], text.rpartition(">")[2])

    return ScriptedEngine(script)


async def test_it_writes_anew_until_the_critique_finds_nothing() -> None:
    notes: list[Progress] = []
    outcome = await work_on(talk("1", "2", "3", "4", right="3"), SelfRefine(), budget=Budget(samples=8), notes=notes)
    assert outcome.sample.text == "3" and outcome.ended == "done" and outcome.verified is None
    assert outcome.spent.samples == 3 and outcome.confidence == pytest.approx(1 / 3)
    assert [note.text for note in notes if note.kind == "sample"] == ["1", "2", "3"]
    assert [note.text for note in notes if note.kind == "step"] == ["Verdict: wrong"] * 2


async def test_the_budget_counts_versions() -> None:
    outcome = await work_on(talk("1", "2", "3", "4"), SelfRefine(), budget=Budget(samples=3))
    assert outcome.sample.text == "3" and outcome.spent.samples == 3


async def test_a_critique_without_a_verdict_has_found_something() -> None:
    outcome = await work_on(talk("1", "2", "3", verdict="hm"), SelfRefine(), budget=Budget(samples=2))
    assert outcome.sample.text == "2"


async def test_it_stops_where_the_verifier_passes() -> None:
    verifier = RuleVerifier(lambda claim: 0.9 if claim.text == "2" else 0.2, steps=False)
    outcome = await work_on(talk("1", "2", "3"), SelfRefine(), verifier)
    assert outcome.sample.text == "2" and outcome.verified and outcome.confidence == 0.9
    assert verifier.calls == 2


async def test_the_verifiers_favourite_wins_where_none_passes() -> None:
    scores = {"1": 0.1, "2": 0.4, "3": 0.2}
    verifier = RuleVerifier(lambda claim: scores[claim.text])
    outcome = await work_on(talk("1", "2", "3"), SelfRefine(), verifier, budget=Budget(samples=3))
    assert outcome.sample.text == "2" and outcome.verified is False and outcome.confidence == 0.4


async def test_a_version_without_an_answer_gives_way_to_one_that_has() -> None:
    outcome = await work_on(
        talk("1", "?"), SelfRefine(), budget=Budget(samples=2), extract=lambda text: text if text != "?" else None
    )
    assert outcome.sample.text == "1" and outcome.unparsed == 1


async def test_it_begins_with_what_came_with_the_request() -> None:
    edge = Sample("1", (), 0.0, "1")
    outcome = await work_on(talk("1", "2", right="2"), SelfRefine(), given=[edge])
    assert outcome.sample.text == "2" and outcome.spent.samples == 1


async def test_a_verifier_that_fails_leaves_the_last_version_unverified() -> None:
    verifier = RuleVerifier(lambda claim: 0.5, fail_after=1)
    outcome = await work_on(talk("1", "2"), SelfRefine(), verifier, budget=Budget(samples=2))
    assert outcome.sample.text == "2" and outcome.verified is None and outcome.complaints


async def test_a_full_context_ends_it() -> None:
    engine = talk("1", "2")
    engine.context = 200  # the question and an answer fit, a critique does not
    outcome = await work_on(engine, SelfRefine())
    assert outcome.sample.text == "1" and outcome.spent.tokens == 2


@pytest.mark.parametrize("budget", [Budget(tokens=1), Budget(tokens=5), Budget(seconds=1e-6)])
async def test_a_small_budget_ends_it_with_what_there_is(budget: Budget) -> None:
    outcome = await work_on(talk("1", "2"), SelfRefine(), budget=budget)
    assert outcome.ended in ("tokens", "time")
    assert budget.tokens is None or outcome.spent.tokens <= budget.tokens


@pytest.mark.parametrize(
    ("critique", "nothing"),
    [
        ("All is well.\nVerdict: correct", True),
        ("**Verdict:** Correct.", True),
        ("Verdict: correct? No.\nVerdict: wrong", False),
        ("Verdict: correctly done", False),
        ("It is correct", False),
        ("", False),
    ],
)
def test_the_last_verdict_counts(critique: str, nothing: bool) -> None:
    assert finds_nothing(critique) is nothing
