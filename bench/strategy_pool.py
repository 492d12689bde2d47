"""Answers drawn and judged once, and strategies that are run on them again and again.

A strategy's samples follow from the seed and their numbers alone, so the first n of a pool are what it would have
drawn; other n of it are what it would have drawn with another seed. Only strategies that fork cannot be run on a pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from updraft.strategies import Budget, Forks, Outcome, Problem, Sample, Strategy, Workspace
from updraft.strategies.branches import Branch, Work
from updraft.strategies.subject import Attempt, Question, Subject
from updraft.verifiers.base import Judgement

__all__ = ["Pool", "draw_pool", "run_on"]


@dataclass(frozen=True, slots=True)
class Pool:
    """A question's samples, and what the verifier thinks of each (none without one)."""

    question: Question
    samples: tuple[Sample, ...]
    judgements: tuple[Judgement, ...]

    def part(self, start: int, count: int) -> Pool:
        """So many of its samples from one on."""
        stop = start + count
        return Pool(self.question, self.samples[start:stop], self.judgements[start:stop])

    def with_(self, other: Pool) -> Pool:
        """Both pools' samples together."""
        return Pool(self.question, self.samples + other.samples, self.judgements + other.judgements)

    @property
    def right(self) -> list[bool]:
        """Whether each sample's answer is the known one."""
        return [sample.answer == self.question.answer for sample in self.samples]


async def draw_pool(subject: Subject, question: Question, count: int, *, seed: int) -> Pool:
    """Draw `count` answers to a question, and have the subject's verifier judge them."""
    forks = subject.forks(seed)
    try:
        work = Workspace(subject.problem(question.text, seed=seed), Budget(samples=count), forks, subject.verifier)
        samples = await work.sample(count)
        judgements = await work.judge(samples) if work.verifier is not None else []
        return Pool(question, tuple(samples), tuple(judgements))
    finally:
        await forks.close()


class _Drawn:
    """Stands for `Forks` where nothing is left to draw."""

    def __init__(self) -> None:
        self.work = Work()


class _Replay(Workspace):
    """A workspace whose samples and judgements are a pool's."""

    def __init__(self, problem: Problem, budget: Budget, subject: Subject, pool: Pool) -> None:
        super().__init__(problem, budget, cast(Forks, _Drawn()), subject.verifier)
        self._coming = list(pool.samples)
        self._verdicts = {id(sample): judged for sample, judged in zip(pool.samples, pool.judgements, strict=True)}

    async def sample(self, count: int, prompt: Sequence[int] | None = None, **options: Any) -> list[Sample]:
        drawn, self._coming = self._coming[:count], self._coming[count:]
        self.spent.samples += len(drawn)
        self.forks.work.tokens += sum(len(sample.tokens) for sample in drawn)
        return drawn

    async def judge(self, answers: Sequence[Sample | Branch]) -> list[Judgement]:
        self.spent.verifier_calls += len(answers)
        return [self._verdicts[id(answer)] for answer in answers]


async def run_on(pool: Pool, subject: Subject, strategy: Strategy) -> Attempt:
    """Run a strategy with all of a pool's samples as its budget."""
    problem = replace(subject.problem(pool.question.text), given=())
    work = _Replay(problem, Budget(samples=len(pool.samples)), subject, pool)
    strategy.check(work)
    outcome: Outcome = await strategy.solve(work)
    return Attempt(pool.question, outcome, subject.right(pool.question, outcome))
