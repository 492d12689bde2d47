"""Adaptive inference-time compute (arXiv 2410.02725): more samples only where the answers so far leave room for better
ones, and weak samples given up after a few tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Final, Literal

from pydantic import Field

from updraft.errors import ConfigError
from updraft.strategies.base import Strategy
from updraft.strategies.branches import Branch
from updraft.strategies.problem import Outcome, Sample
from updraft.strategies.self_evaluation import Platt, SelfEvaluation
from updraft.strategies.tally import best_first, conclude, tally, verdict_on
from updraft.strategies.workspace import WARM, Workspace
from updraft.verifiers.base import Judgement

__all__ = ["Adaptive"]

_ANNEALED: Final = 64  # waves, after which the temperature stays: powers must not overflow
_COLDEST: Final = 0.05  # all samples of colder waves would be the same


class Adaptive(Strategy):
    """Samples in waves that grow, each warmer than the one before, until one scores `gamma`. The best score wins.

    Attributes:
        judge: who scores: the model itself, asked whether it would do better if it started over; exp(mean
            log-probability), where a model cannot judge itself; or the verifier.
        gamma: the score that is enough.
        wave: samples of the first wave.
        growth: each wave has so many times the samples of the one before.
        anneal: each wave's temperature is so many times that of the one before, up to `hottest`.
        look: tokens after which the samples of a wave are compared and the weaker ones given up; None keeps all.
        keep: the part that goes on.
        platt: scaling of self-evaluations.
    """

    name: ClassVar[str] = "adaptive"

    judge: Literal["self", "logprob", "verifier"] = "self"
    gamma: float = Field(default=0.92, ge=0.0, le=1.0)
    wave: int = Field(default=1, ge=1, le=256)
    growth: float = Field(default=2.0, ge=1.0, le=16.0)
    anneal: float = Field(default=1.15, ge=0.25, le=4.0)
    hottest: float = Field(default=1.2, gt=0.0, le=4.0)
    look: int | None = Field(default=None, ge=1)
    keep: float = Field(default=0.5, gt=0.0, le=1.0)
    platt: Platt | None = None

    def check(self, work: Workspace) -> None:
        super().check(work)
        if self.judge != "verifier":
            return
        if work.verifier is None or (self.look is not None and not work.verifier.judges_steps):
            steps = " that judges steps" if work.verifier else ""
            raise ConfigError(
                f"The strategy adaptive with the judge verifier needs a verifier{steps}.",
                remedy="Name one, or choose the judge self or logprob.",
            )

    async def solve(self, work: Workspace) -> Outcome:
        samples = list(work.problem.given)
        judged = await self._judge(work, samples)
        left, number = work.budget.samples, 0
        while left > 0 and not work.exhausted and not self._enough(work, judged):
            size = min(float(left), self.wave * self.growth**number)
            branches = self._start(work, min(int(size), self._affordable(work)), number)
            kept = await self._write(work, branches)
            fresh = [work.sample_of(branch) for branch in kept]
            samples += fresh
            judged += await self._judge(work, fresh)
            for branch, sample in zip(kept, fresh, strict=True):
                work.drop(branch)
                work.tell("sample", branch=sample.branch, text=sample.text)
            left, number = left - len(branches), number + 1
        if left == 0 and not self._enough(work, judged):
            work.ended = work.ended or "samples"
        return self._conclude(work, samples, judged)

    def _start(self, work: Workspace, count: int, number: int) -> list[Branch]:
        """The branches of a wave; the first one draws as the request says."""
        coldest = work.problem.sampling.temperature or WARM
        warmer = min(coldest * self.anneal ** min(number, _ANNEALED), max(self.hottest, coldest))
        warmer = max(warmer, min(_COLDEST, coldest))
        return [work.start(temperature=warmer if number else None) for _ in range(count)]

    async def _write(self, work: Workspace, branches: Sequence[Branch]) -> list[Branch]:
        """Write a wave to its end; the weak ones are given up on the way. Gives those that are left."""
        kept = list(branches)
        if self.look is not None and len(branches) > 1:
            await work.extend(branches, most=self.look)
            kept = await self._prune(work, branches)
        await work.extend(kept)
        return kept

    async def _prune(self, work: Workspace, branches: Sequence[Branch]) -> list[Branch]:
        scores = [judgement.score for judgement in await self._judge(work, branches)]
        most = math.ceil(self.keep * len(branches))
        ranked = sorted(range(len(branches)), key=lambda index: -_known(scores[index]))
        for index in ranked[most:]:
            work.tell("prune", branch=branches[index].number, value=scores[index])
            work.drop(branches[index])
        return [branches[index] for index in sorted(ranked[:most])]

    def _affordable(self, work: Workspace) -> int:
        """Branches that the budget's tokens reach for in any case, at least 1."""
        most = work.problem.max_tokens
        if self.look is not None and self.look < most:
            most = self.look + math.ceil(self.keep * (most - self.look))
        return max(1, work.tokens_left // most)

    def _enough(self, work: Workspace, judged: Sequence[Judgement]) -> bool:
        if any(_known(judgement.score) >= self.gamma for judgement in judged):
            work.ended = work.ended or "confident"
        return work.ended is not None

    async def _judge(self, work: Workspace, answers: Sequence[Sample | Branch]) -> list[Judgement]:
        if self.judge == "verifier":
            return await work.judge(answers)
        claims = [work.claim(answer) for answer in answers]
        if self.judge == "logprob":
            scores: list[float | None] = [math.exp(min(claim.logprob, 0.0)) for claim in claims]
        else:
            texts = [[*claim.prompt, *claim.tokens] for claim in claims]
            scores = await SelfEvaluation(work.forks, work.forks.engine, self.platt).scores(texts)
        for answer, score in zip(answers, scores, strict=True):
            work.tell("score", branch=answer.number if isinstance(answer, Branch) else answer.branch, value=score)
        return [Judgement(score) for score in scores]

    def _conclude(self, work: Workspace, samples: Sequence[Sample], judged: Sequence[Judgement]) -> Outcome:
        scores = [judgement.score for judgement in judged]
        alternatives = best_first(tally(samples, [score or 0.0 for score in scores], scores))
        verified = verdict_on(alternatives, samples, judged) if self.judge == "verifier" else None
        return conclude(work, samples, alternatives, confidence=lambda best: best.score or 0.0, verified=verified)


def _known(score: float | None) -> float:
    return -1.0 if score is None else score
