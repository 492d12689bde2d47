"""Best of n: the sample that a verifier likes best, or the final answer whose samples it likes best together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from updraft.strategies.cap import Cap
from updraft.strategies.problem import Alternative, Outcome, Sample
from updraft.strategies.saturation import best_gain
from updraft.strategies.tally import best_first, conclude, tally, verdict_on
from updraft.strategies.voting import Vote, Voting
from updraft.strategies.workspace import Workspace
from updraft.verifiers.base import Judgement

__all__ = ["BestOfN"]


class BestOfN(Voting):
    """The verifier scores every sample. Where it can judge none of them, the majority decides, unverified.

    Attributes:
        weighted: scores of equal answers add up (Li et al., arXiv 2206.02336); else the highest score wins, and
            `confidence` is the score at which to stop.
        cap: no more samples are drawn than the verifier's false-positive rate lets make sense.
    """

    name: ClassVar[str] = "best-of-n"
    needs_verifier: ClassVar[bool] = True

    weighted: bool = False
    cap: Cap = Cap()

    def open_vote(self, work: Workspace) -> Vote:
        return _ScoredVote(work) if self.weighted else _BestVote(work)

    def most(self, work: Workspace) -> int:
        return min(work.budget.samples, self.cap.tries(work.verifier))


class _ScoredVote(Vote):
    """Every sample weighs its score."""

    def __init__(self, work: Workspace) -> None:
        super().__init__(work)
        self.judgements: list[Judgement] = []

    async def add(self, samples: Sequence[Sample]) -> None:
        await super().add(samples)
        self.judgements += await self.work.judge(samples)

    @property
    def scores(self) -> list[float | None]:
        return [judgement.score for judgement in self.judgements]

    @property
    def judged(self) -> bool:
        return any(score is not None for score in self.scores)

    @property
    def settles(self) -> bool:
        return self.judged

    @property
    def weights(self) -> list[float]:
        return [score or 0.0 for score in self.scores] if self.judged else super().weights

    @property
    def alternatives(self) -> list[Alternative]:
        return tally(self.samples, self.weights, self.scores)

    def conclude(self) -> Outcome:
        alternatives = self.alternatives
        return conclude(
            self.work,
            self.samples,
            alternatives,
            confidence=self.confidence_of,
            verified=verdict_on(alternatives, self.samples, self.judgements),
        )

    def confidence_of(self, best: Alternative) -> float:
        return best.weight


class _BestVote(_ScoredVote):
    """The highest score wins. No number of samples settles that."""

    @property
    def settles(self) -> bool:
        return False

    @property
    def alternatives(self) -> list[Alternative]:
        return best_first(super().alternatives)

    @property
    def sureness(self) -> float:
        return max(self._known, default=0.0)

    def gain(self, left: int) -> float:
        return best_gain(self._known)

    def confidence_of(self, best: Alternative) -> float:
        return best.weight if best.score is None else best.score

    @property
    def _known(self) -> list[float]:
        return [score for score in self.scores if score is not None]
