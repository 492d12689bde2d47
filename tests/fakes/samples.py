"""A workspace whose samples are given beforehand, and a verifier that knows its scores: for tests of strategies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from updraft.sampling import SamplingParams
from updraft.strategies import Budget, Forks, Problem, Progress, Sample, Workspace
from updraft.strategies.branches import Work
from updraft.verifiers import Claim, Judgement, Verifier

__all__ = ["ScoreTable", "ScriptedWorkspace", "sample", "scripted"]


def sample(answer: str | None, *, logprob: float = -0.1, text: str | None = None, tokens: int = 10) -> Sample:
    """One whole answer; its text is the answer unless another is given."""
    return Sample(answer or "" if text is None else text, tuple(range(tokens)), logprob, answer)


@dataclass
class ScoreTable:
    """Implements `updraft.verifiers.Verifier`: scores by text; 0.5 is enough to pass. Others cannot be judged."""

    scores: Mapping[str, float] = field(default_factory=dict)
    false_positive_rate: float | None = None
    failing: bool = False
    name: str = "table"
    judges_steps: bool = False
    seen: list[Claim] = field(default_factory=list)

    async def judge(self, claims: Sequence[Claim]) -> Sequence[Judgement]:
        self.seen += claims
        if self.failing:
            raise OSError("it is gone")
        scores = [self.scores.get(claim.text) for claim in claims]
        return [Judgement(score, passed=score is not None and score >= 0.5) for score in scores]


class ScriptedWorkspace(Workspace):
    """Gives prepared samples in order, under the budget.

    Attributes:
        waves: how many samples were asked for each time.
        progress: what was told.
    """

    prepared: Sequence[Sample]
    waves: list[int]
    progress: list[Progress]

    async def sample(
        self, count: int, prompt: Sequence[int] | None = None, *, temperature: float | None = None
    ) -> list[Sample]:
        if self.exhausted:
            return []
        self.waves.append(count)
        fresh = list(self.prepared[self.spent.samples : self.spent.samples + count])
        assert len(fresh) == count, "more samples than were prepared"
        self.spent.samples += count
        self.forks.work.tokens += sum(len(one.tokens) for one in fresh)
        return fresh


def scripted(
    prepared: Sequence[Sample],
    *,
    verifier: Verifier | None = None,
    given: Sequence[Sample] = (),
    **limits: Any,
) -> ScriptedWorkspace:
    """A workspace that gives these samples; it must be made in an event loop."""
    problem = Problem([1], "?", SamplingParams(seed=0), given=given)
    forks = cast(Forks, SimpleNamespace(work=Work(), ends=frozenset()))
    progress: list[Progress] = []
    budget = Budget(**{"samples": max(1, len(prepared)), **limits})
    work = ScriptedWorkspace(problem, budget, forks, verifier, progress.append)
    work.prepared, work.waves, work.progress = prepared, [], progress
    return work
