"""What components do with answers, and what a budget of calls does to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from tests.fakes.engine import HashEngine
from updraft.composition import parse_pipeline
from updraft.composition.strategy import Composed
from updraft.errors import ConfigError
from updraft.sampling import SamplingParams
from updraft.strategies import Budget, Outcome, Progress, Sample
from updraft.strategies.solve import solve
from updraft.strategies.subject import Subject
from updraft.verifiers.base import Claim, Judgement, Verifier

GENERATE = {"kind": "generate", "id": "g", "samples": 6}


class Scorer:
    """Gives each claim what a rule says."""

    name = "scorer"
    judges_steps = False
    false_positive_rate = None

    def __init__(self, rule: Callable[[Claim], float | None]) -> None:
        self._rule = rule
        self.asked = 0

    async def judge(self, claims: Sequence[Claim]) -> Sequence[Judgement]:
        self.asked += len(claims)
        scores = [self._rule(claim) for claim in claims]
        return [Judgement(score, passed=score is not None and score > 0.5) for score in scores]


@pytest.fixture
async def subject() -> AsyncIterator[Subject]:
    engine = HashEngine(context=4096, sequences=12)
    async with Subject(
        engine, extract=lambda text: text[-1:] or None, max_tokens=12, sampling=SamplingParams(temperature=1.0)
    ) as subject:
        yield subject


async def run(
    subject: Subject,
    *components: dict[str, Any],
    verifier: Verifier | None = None,
    given: Sequence[Sample] = (),
    runs_code: bool = False,
    notes: list[Progress] | None = None,
    budget: Budget | None = None,
    **settings: Any,
) -> Outcome:
    pipeline = parse_pipeline({"component": list(components), **settings})
    return await solve(
        subject.problem("What?", seed=3, given=given),
        Composed(pipeline=pipeline),
        budget or Budget(samples=64),
        subject.forks(3),
        verifier=verifier,
        runs_code=runs_code,
        note=notes.append if notes is not None else lambda progress: None,
    )


def comparable(outcome: Outcome) -> Outcome:
    outcome.spent.seconds = 0.0
    return outcome


async def test_the_same_seed_gives_the_same(subject: Subject) -> None:
    parts = (
        GENERATE,
        {"kind": "rank", "id": "r", "inputs": ["g"], "keep": 3},
        {"kind": "fuse", "id": "f", "inputs": ["r"]},
    )
    first, second = await run(subject, *parts), await run(subject, *parts)
    assert comparable(first).sample == comparable(second).sample
    assert first.alternatives == second.alternatives and first.spent.tokens == second.spent.tokens


async def test_the_verifiers_best_answer_wins(subject: Subject) -> None:
    verifier = Scorer(lambda claim: len(claim.text) / 100)
    outcome = await run(
        subject, GENERATE, {"kind": "rank", "id": "r", "inputs": ["g"], "by": "verifier", "keep": 2}, verifier=verifier
    )
    plain = await run(subject, GENERATE, verifier=verifier)
    longest = max(len(alternative.sample.text) for alternative in plain.alternatives)
    assert len(outcome.sample.text) == longest and verifier.asked == 6
    assert outcome.confidence == longest / 100 and len(outcome.alternatives) == 2


async def test_a_vote_keeps_what_most_say(subject: Subject) -> None:
    given = [Sample("abcX", (1,), -1.0, "X"), Sample("defX", (2,), -1.0, "X"), Sample("Y", (3,), -1.0, "Y")]
    outcome = await run(subject, {**GENERATE, "samples": 1}, given=given)
    assert outcome.sample.answer == "X" and outcome.alternatives[0].samples == 2


async def test_what_passes_goes_on_and_all_where_nothing_does(subject: Subject) -> None:
    def even(claim: Claim) -> float:
        return 1.0 if len(claim.text) % 2 == 0 else 0.0

    verify = {"kind": "verify", "id": "v", "inputs": ["g"]}
    outcome = await run(subject, GENERATE, verify, verifier=Scorer(even))
    assert outcome.verified is True and len(outcome.sample.text) % 2 == 0
    outcome = await run(subject, GENERATE, verify, verifier=Scorer(lambda claim: 0.1))
    assert outcome.verified is False and outcome.confidence == 0.1
    outcome = await run(subject, GENERATE, verify, verifier=Scorer(lambda claim: None))
    assert outcome.verified is None and outcome.sample.text


async def test_critiques_and_fusion_see_what_came_in(subject: Subject) -> None:
    prompts: list[str] = []
    encode = subject.engine.tokenizer.encode

    def seen(text: str, **options: bool) -> list[int]:
        prompts.append(text)
        return encode(text, **options)

    subject.engine.tokenizer.encode = seen  # type: ignore[method-assign]
    await run(
        subject,
        {**GENERATE, "samples": 2},
        {"kind": "critique", "id": "c", "inputs": ["g"]},
        {"kind": "fuse", "id": "f", "inputs": ["c"], "samples": 2},
    )
    critiques, fusion = prompts[1:3], prompts[3]
    assert all("Answer: " in prompt for prompt in critiques)
    assert "[1] " in fusion and "[2] " in fusion and "Critique of [2]" in fusion and "What?" in fusion


async def test_the_model_ranks_in_both_orders_and_says_yes_or_no(subject: Subject) -> None:
    outcome = await run(subject, GENERATE, {"kind": "rank", "id": "r", "inputs": ["g"], "by": "model", "keep": 6})
    assert sum(one.score or 0.0 for one in outcome.alternatives) == pytest.approx(1.0)
    outcome = await run(subject, GENERATE, {"kind": "verify", "id": "v", "inputs": ["g"], "by": "model"})
    assert outcome.verified is not None and 0.0 < outcome.confidence < 1.0


async def test_calls_are_bounded_and_the_latest_answers_stand(subject: Subject) -> None:
    for calls in range(1, 12):
        verifier, notes = Scorer(lambda claim: 0.7), list[Progress]()
        outcome = await run(
            subject,
            GENERATE,
            {"kind": "rank", "id": "r", "inputs": ["g"], "by": "verifier", "keep": 3},
            {"kind": "critique", "id": "c", "inputs": ["r"]},
            {"kind": "fuse", "id": "f", "inputs": ["c"]},
            verifier=verifier,
            notes=notes,
            calls=calls,
        )
        critiques = sum(note.kind == "step" for note in notes)
        assert outcome.spent.samples + critiques + verifier.asked <= calls
        assert outcome.sample.text and (outcome.ended == "calls") == (calls < 16)


async def test_what_costs_no_call_is_done_without_calls(subject: Subject) -> None:
    notes: list[Progress] = []
    outcome = await run(
        subject, GENERATE, {"kind": "rank", "id": "r", "inputs": ["g"], "keep": 2}, calls=6, notes=notes
    )
    assert [note.text for note in notes if note.kind == "stage"] == ["g", "r"]
    assert outcome.ended == "done" and sum(one.samples for one in outcome.alternatives) <= 2


async def test_the_budgets_samples_bound_all_answers_together(subject: Subject) -> None:
    fuse = {"kind": "fuse", "id": "f", "inputs": ["g"], "samples": 4}
    for samples in (1, 6, 8, 10, 11):
        outcome = await run(subject, GENERATE, fuse, budget=Budget(samples=samples))
        assert outcome.spent.samples == min(samples, 10) and outcome.sample.text
        assert outcome.ended == ("samples" if samples < 10 else "done")


async def test_answers_that_cannot_be_read_are_counted_wherever_they_were_dropped(subject: Subject) -> None:
    given = [Sample("", (1,), -1.0, None), Sample("", (1,), -1.0, None), Sample("X", (1,), -1.0, "X")]
    rank = {"kind": "rank", "id": "r", "inputs": ["g"], "keep": 1}
    outcome = await run(subject, {**GENERATE, "samples": 1}, rank, given=given)
    assert outcome.unparsed == 2 and outcome.sample.answer is not None


async def test_an_answer_is_listed_once_with_the_weight_of_all_its_samples(subject: Subject) -> None:
    given = [Sample(f"{name}X", (1,), -1.0, "X") for name in "abc"] + [Sample("Y", (2,), -1.0, "Y")]
    scores = {"aX": 0.2, "bX": 0.5, "cX": 0.0, "Y": 0.4}
    rank = {"kind": "rank", "id": "r", "inputs": ["g"], "by": "verifier", "keep": 9}
    verifier = Scorer(lambda claim: scores.get(claim.text, 0.0))
    outcome = await run(subject, {**GENERATE, "samples": 1}, rank, given=given, verifier=verifier)
    best, second, *_ = outcome.alternatives
    assert (best.sample.text, best.samples, outcome.confidence) == ("bX", 3, 0.5) and second.sample.text == "Y"
    assert best.weight == pytest.approx(0.7 / 1.1) and outcome.verified is False


async def test_verified_is_said_of_the_answer_itself(subject: Subject) -> None:
    given = [Sample("good", (1,), -1.0, "good"), Sample("good", (2,), -1.0, "good"), Sample("bad", (3,), -1.0, "bad")]
    verify = {"kind": "verify", "id": "v", "inputs": ["g"]}
    verifier = Scorer(lambda claim: 0.1 if claim.text == "bad" else None)  # of the winner it cannot tell
    outcome = await run(subject, {**GENERATE, "samples": 1}, verify, given=given, verifier=verifier)
    assert outcome.sample.answer == "good" and outcome.verified is None


async def test_where_no_answer_was_written_the_outcome_is_empty(subject: Subject) -> None:
    tests = {"kind": "write-tests", "id": "t"}
    outcome = await run(subject, tests, GENERATE, budget=Budget(tokens=5))
    assert outcome.sample.text == "" and outcome.confidence == 0.0 and outcome.ended == "tokens"


async def test_what_was_not_judged_comes_after_what_was(subject: Subject) -> None:
    given = [Sample("X", (1,), -1.0, "X"), Sample("X", (2,), -1.0, "X"), Sample("Y", (3,), -1.0, "Y")]
    outcome = await run(
        subject,
        {**GENERATE, "samples": 1},
        {"kind": "rank", "id": "r", "inputs": ["g"], "keep": 4},  # the vote: 0.5 for X
        {"kind": "rank", "id": "s", "inputs": ["r"], "by": "verifier", "keep": 1},
        given=given,
        verifier=Scorer(lambda claim: 0.3),
        calls=2,
    )
    assert outcome.ended == "calls" and outcome.alternatives[0].score == 0.3


async def test_tokens_end_a_pipeline_early(subject: Subject) -> None:
    notes: list[Progress] = []
    outcome = await run(
        subject,
        GENERATE,
        {"kind": "fuse", "id": "f", "inputs": ["g"]},
        notes=notes,
        budget=Budget(tokens=30),
    )
    assert outcome.ended == "tokens" and outcome.spent.tokens <= 30
    assert [note.text for note in notes if note.kind == "stage"] == ["g"]


async def test_tests_are_run_only_where_that_is_allowed(subject: Subject) -> None:
    parts = (
        GENERATE,
        {"kind": "write-tests", "id": "t"},
        {"kind": "run-tests", "id": "r", "inputs": ["g", "t"]},
    )
    outcome = await run(subject, *parts, runs_code=True)  # a model of letters writes no assertion
    assert "no test could be read" in outcome.complaints[0] and outcome.verified is None


async def test_nothing_is_left_when_it_is_cancelled(subject: Subject) -> None:
    for delay in (0.0, 0.002, 0.01, 0.03):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                run(subject, {**GENERATE, "samples": 256}, budget=Budget(samples=256, seconds=60)), delay
            )
    await asyncio.wrap_future(subject.loop.call(subject.places.close))
    engine = subject.engine
    assert isinstance(engine, HashEngine) and engine.open_sequences == 0


async def test_what_is_missing_is_said(subject: Subject) -> None:
    with pytest.raises(ConfigError, match="verifier"):
        await run(subject, GENERATE, {"kind": "verify", "id": "v", "inputs": ["g"]})
    parts = ({"kind": "write-tests", "id": "t"}, {"kind": "run-tests", "id": "r", "inputs": ["g", "t"]})
    with pytest.raises(ConfigError, match="'r' runs programs"):
        await run(subject, GENERATE, *parts)
    engine = subject.engine
    assert isinstance(engine, HashEngine) and engine.forwards == 0
