"""The kinds of components. Each shows the model what came in, and hands on what came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from updraft.composition import prompts
from updraft.composition.base import Candidate, Component, Flow, Gives, Meter
from updraft.composition.testing import asserts_of, run_tests
from updraft.strategies.prompts import first_tokens
from updraft.strategies.workspace import Workspace
from updraft.verifiers.settings import Resources

__all__ = ["KINDS", "AnyComponent", "Critique", "Fuse", "Generate", "Rank", "RunTests", "Verify", "WriteTests"]

_SHOWN: Final = 1500  # characters of an answer that a prompt shows
_NUMBERS: Final = 9  # answers that are ranked at once: each has a digit


class Generate(Component):
    """Writes answers to the question; those that came with the request are added to the first generator's."""

    kind: Literal["generate"] = "generate"
    takes: ClassVar[tuple[Gives, ...]] = ()
    samples: int = Field(default=1, ge=1, le=256)

    async def run(self, work: Workspace, incoming: Flow, meter: Meter) -> Flow:
        granted = meter.answers(self.samples)
        return Flow(tuple(map(Candidate, await work.sample(granted))))


class Rank(Component):
    """Keeps the best answers: by the request's verifier, by how much of the vote each has, or as the model ranks them.

    The model is asked twice, with the order turned round, so that places in the list do not count. What was not judged
    comes last.
    """

    kind: Literal["rank"] = "rank"
    keep: int = Field(default=1, ge=1, le=64)
    by: Literal["verifier", "vote", "model"] = "vote"

    async def run(self, work: Workspace, incoming: Flow, meter: Meter) -> Flow:
        if self.by == "verifier":
            judged = await _verified(work, incoming.answers, meter)
        elif self.by == "model":
            judged = await _ranked(work, incoming.answers, meter)
        else:
            judged = _voted(incoming.answers)
        best = sorted(judged, key=lambda candidate: -_value(candidate))
        kept = best[: self.keep]
        for candidate in best[self.keep :]:
            work.tell("prune", branch=candidate.sample.branch, value=candidate.score)
        return Flow(tuple(kept))


class Critique(Component):
    """Has the model say what is right and wrong in each answer; a `fuse` after it sees that."""

    kind: Literal["critique"] = "critique"

    async def run(self, work: Workspace, incoming: Flow, meter: Meter) -> Flow:
        answers = list(incoming.answers)
        for index in range(meter.take(len(answers))):
            candidate = answers[index]
            text = prompts.CRITIQUE.format(question=work.problem.question, answer=candidate.sample.text[:_SHOWN])
            if written := await work.write(text):
                work.tell("step", branch=written.branch, text=written.text)
                answers[index] = replace(candidate, critique=written.text)
        return Flow(tuple(answers))


class Fuse(Component):
    """Has the model write new answers out of all that came in; the last are left out where its context is too short."""

    kind: Literal["fuse"] = "fuse"
    samples: int = Field(default=1, ge=1, le=64)

    async def run(self, work: Workspace, incoming: Flow, meter: Meter) -> Flow:
        answers = list(incoming.answers)
        while answers:
            text = prompts.FUSE.format(
                count=len(answers), question=work.problem.question, answers=prompts.listed(answers, _SHOWN)
            )
            prompt = work.ask(text)
            if len(prompt) + work.problem.max_tokens <= work.forks.engine.context:
                written = await work.sample(meter.answers(self.samples), prompt)
                return Flow(tuple(map(Candidate, written))) if written else incoming
            answers.pop()
        return incoming


class Verify(Component):
    """Lets through what passes the request's verifier, or the model's own yes or no; all of them where none passes."""

    kind: Literal["verify"] = "verify"
    by: Literal["verifier", "model"] = "verifier"

    async def run(self, work: Workspace, incoming: Flow, meter: Meter) -> Flow:
        if self.by == "verifier":
            judged = await _verified(work, incoming.answers, meter)
        else:
            judged = await _believed(work, incoming.answers, meter)
        return Flow(tuple(candidate for candidate in judged if candidate.passed) or tuple(judged))


class WriteTests(Component):
    """Has the model write tests for the program that is asked for: lines of Python that begin with assert."""

    kind: Literal["write-tests"] = "write-tests"
    takes: ClassVar[tuple[Gives, ...]] = ()
    gives: ClassVar[Gives] = "tests"
    tests: int = Field(default=5, ge=1, le=32)

    async def run(self, work: Workspace, incoming: Flow, meter: Meter) -> Flow:
        if not meter.take(1):
            return Flow()
        text = prompts.TESTS.format(count=self.tests, question=work.problem.question)
        written = await work.write(text)
        tests = asserts_of(written.text)[: self.tests] if written else []
        if written and not tests:
            work.complaints.append("no test could be read from what the model wrote")
        return Flow(tests=tuple(tests))


class RunTests(Component):
    """Runs the program in each answer against the tests, in a sandbox; the part that pass is its score."""

    kind: Literal["run-tests"] = "run-tests"
    takes: ClassVar[tuple[Gives, ...]] = ("answers", "tests")

    async def run(self, work: Workspace, incoming: Flow, meter: Meter) -> Flow:
        if not incoming.tests:
            return Flow(incoming.answers)
        results = []
        for candidate in incoming.answers:
            if work.exhausted:
                score = None
            else:
                score = await run_tests(candidate.sample.text, incoming.tests, work.seconds_left)
            work.tell("score", branch=candidate.sample.branch, value=score)
            results.append(candidate.judged(score, None if score is None else score == 1.0))
        return Flow(tuple(results))


AnyComponent = Annotated[
    Generate | Rank | Critique | Fuse | Verify | WriteTests | RunTests, Field(discriminator="kind")
]
KINDS: Final = ("generate", "rank", "critique", "fuse", "verify", "write-tests", "run-tests")


def _value(candidate: Candidate) -> float:
    return -1.0 if candidate.score is None else candidate.score


def _voted(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Each answer's part of the vote; what cannot be parsed has none."""
    given = [candidate.sample.answer for candidate in candidates]
    voting = max(1, sum(answer is not None for answer in given))
    return [
        candidate.judged(0.0 if answer is None else given.count(answer) / voting, candidate.passed)
        for candidate, answer in zip(candidates, given, strict=True)
    ]


async def _verified(work: Workspace, candidates: Sequence[Candidate], meter: Meter) -> list[Candidate]:
    asked = list(candidates[: meter.take(len(candidates))])
    judgements = await work.judge([candidate.sample for candidate in asked])
    judged = [
        candidate.judged(judgement.score, None if judgement.score is None else judgement.passed)
        for candidate, judgement in zip(asked, judgements, strict=True)
    ]
    return [*judged, *_unjudged(candidates[len(asked) :])]


async def _believed(work: Workspace, candidates: Sequence[Candidate], meter: Meter) -> list[Candidate]:
    """The model's own yes or no on each answer."""
    from updraft.verifiers.asking import Generative  # which needs the package of strategies, and so this one

    asked = list(candidates[: meter.take(len(candidates))])
    scorer = Generative(votes=1).scorer(Resources(reader=work.forks))
    judged = []
    for candidate, judgement in zip(asked, await scorer([work.claim(one.sample) for one in asked]), strict=True):
        score = judgement.score
        work.tell("score", branch=candidate.sample.branch, value=score)
        judged.append(candidate.judged(score, None if score is None else score > 0.5))
    return [*judged, *_unjudged(candidates[len(asked) :])]


async def _ranked(work: Workspace, candidates: Sequence[Candidate], meter: Meter) -> list[Candidate]:
    """The chance that the model names each answer as the best of the first nine; asked in both orders."""
    shown = list(candidates[:_NUMBERS])
    if len(shown) < 2 or not meter.take(2, least=2):
        return list(candidates)
    tokens = first_tokens(work.forks.engine, [str(number) for number in range(1, len(shown) + 1)])
    texts = [
        work.ask(
            prompts.RANK.format(count=len(shown), question=work.problem.question, answers=prompts.listed(order, _SHOWN))
        )
        for order in (shown, shown[::-1])
    ]
    if max(map(len, texts)) > work.forks.engine.context:
        work.complaints.append(f"{len(shown)} answers do not fit the model's context together, so it ranked none")
        return list(candidates)
    ahead, back = await work.forks.choices(texts, tokens)
    chances = [(math.exp(ahead[i]) + math.exp(back[len(shown) - 1 - i])) / 2 for i in range(len(shown))]
    total = sum(chances) or 1.0
    ranked = [one.judged(chance / total, one.passed) for one, chance in zip(shown, chances, strict=True)]
    return [*ranked, *_unjudged(candidates[_NUMBERS:])]


def _unjudged(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that were not asked about: what another component gave them is no measure beside those that were."""
    return [candidate.judged(None, candidate.passed) for candidate in candidates]
