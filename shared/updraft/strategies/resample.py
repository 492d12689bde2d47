"""Resampling: draw until the verifier passes an answer, as long as its false positives leave something to gain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from updraft.strategies.base import Strategy
from updraft.strategies.cap import Cap
from updraft.strategies.problem import Alternative, Outcome, Sample
from updraft.strategies.tally import best_first, conclude, tally
from updraft.strategies.workspace import Workspace
from updraft.verifiers.base import Judgement

__all__ = ["Resample"]

_UNMEASURED = 8
"""Samples at most with a verifier whose errors nobody measured: with a cost for false positives the best number of
samples was often below 10 (Inference Scaling fLaws, arXiv 2411.17501)."""


class Resample(Strategy):
    """The first answer that passes; if none does, the one with the highest score.

    Where the false-positive rate was measured, the confidence in an answer that passed is the probability that it is
    right, which is less for one that passed late. The outcome is `saturated` where the cap ended it.

    Attributes:
        wave: samples that are drawn and judged together.
        price: stop when a sample is expected to add less accuracy than this for 1000 tokens.
        cap: at most so many samples.
    """

    name: ClassVar[str] = "resample"
    needs_verifier: ClassVar[bool] = True

    wave: int = Field(default=1, ge=1, le=256)
    price: float | None = Field(default=None, gt=0.0)
    cap: Cap = Cap(unmeasured=_UNMEASURED)

    async def solve(self, work: Workspace) -> Outcome:
        samples = list(work.problem.given)
        judgements = await work.judge(samples)
        drawn = 0
        while not self._over(work, samples, judgements, drawn):
            fresh = await work.sample(min(self.wave, self._most(work, samples) - drawn))
            drawn += len(fresh)
            samples += fresh
            judgements += await work.judge(fresh)
        return self._conclude(work, samples, judgements)

    def _most(self, work: Workspace, samples: Sequence[Sample]) -> int:
        """Samples that may be drawn, as far as can be told from those so far."""
        most = min(work.budget.samples, self.cap.tries(work.verifier))
        model = self.cap.model_of(work.verifier)
        if model is not None and self.price is not None and samples:
            most = min(most, model.worth(self.price, sum(len(sample.tokens) for sample in samples) / len(samples)))
        return most

    def _over(self, work: Workspace, samples: Sequence[Sample], judgements: Sequence[Judgement], drawn: int) -> bool:
        if any(judgement.passed for judgement in judgements):
            work.ended = "confident"
        elif work.exhausted or work.ended == "calls" or (judgements and judgements[-1].failed):
            return True
        elif drawn >= self._most(work, samples):
            work.ended = "samples" if drawn >= work.budget.samples else "saturated"
        return work.ended is not None

    def _conclude(self, work: Workspace, samples: Sequence[Sample], judgements: Sequence[Judgement]) -> Outcome:
        scores = [judgement.score for judgement in judgements]
        alternatives = best_first(tally(samples, [score or 0.0 for score in scores], scores))
        passed = next((index for index, judgement in enumerate(judgements) if judgement.passed), None)
        if passed is None:
            verified = None if not alternatives or alternatives[0].score is None else False
            return conclude(work, samples, alternatives, confidence=_score, verified=verified)
        chosen = Alternative(samples[passed], 0.0, 1, scores[passed])
        for alternative in alternatives:
            if alternative.sample.answer == chosen.sample.answer:
                chosen = Alternative(chosen.sample, alternative.weight, alternative.samples, chosen.score)
        others = [alternative for alternative in alternatives if alternative.sample.answer != chosen.sample.answer]
        model = self.cap.model_of(work.verifier)
        trust = _score(chosen) if model is None else model.trust(passed + 1)
        return conclude(work, samples, [chosen, *others], confidence=lambda best: trust, verified=True)


def _score(alternative: Alternative) -> float:
    return alternative.score or 0.0
