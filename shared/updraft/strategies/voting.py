"""Strategies whose samples vote: drawn all at once, or in waves until the vote is settled or more would not pay."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

from pydantic import Field

from updraft.routing.votes import Option, count
from updraft.strategies.base import Strategy
from updraft.strategies.problem import Alternative, Ended, Outcome, Sample
from updraft.strategies.saturation import effective_counts, majority_probability, pays, vote_gain
from updraft.strategies.tally import conclude, tally
from updraft.strategies.workspace import Workspace

__all__ = ["Vote", "Voting", "overtaken"]


def overtaken(options: Sequence[Option], left: int) -> bool:
    """Whether the leader can still lose to another answer, or to a new one, with `left` more samples of weight 0 to 1.

    An answer that draws level wins if it was given first.
    """
    if not options:
        return left > 0
    leader, *others = options
    rivals = [(option.weight, option.members[0] < leader.members[0]) for option in others]
    return any(
        weight + left > leader.weight or (earlier and weight + left == leader.weight)
        for weight, earlier in [*rivals, (0.0, False)]
    )


class Vote:
    """The samples so far, those that came with the request included, and what they say: every sample weighs 1."""

    def __init__(self, work: Workspace) -> None:
        self.work = work
        self.samples: list[Sample] = []

    async def add(self, samples: Sequence[Sample]) -> None:
        self.samples += samples

    @property
    def settles(self) -> bool:
        """What was weighed once does not change, and no sample weighs more than 1."""
        return True

    @property
    def weights(self) -> list[float]:
        """One for each sample."""
        return [1.0] * len(self.samples)

    @property
    def alternatives(self) -> list[Alternative]:
        """What to choose first."""
        return tally(self.samples, self.weights)

    @property
    def options(self) -> list[Option]:
        return count([sample.answer for sample in self.samples], self.weights)

    @property
    def sureness(self) -> float:
        """How probable it is that the leader would lead among all that the model could ever say; below 1."""
        first, second, *_ = [*sorted(self._counts, reverse=True), 0.0, 0.0]
        return min(majority_probability(first, second), math.nextafter(1.0, 0.0)) if first > 0.0 else 0.0

    def gain(self, left: int) -> float:
        """Accuracy that the next of `left` samples is expected to add."""
        return vote_gain(self._counts, left)

    def conclude(self) -> Outcome:
        return conclude(self.work, self.samples, self.alternatives)

    @property
    def _counts(self) -> list[float]:
        voters = [
            weight for weight, sample in zip(self.weights, self.samples, strict=True) if sample.answer is not None
        ]
        return effective_counts([option.weight for option in self.options], voters)


class Voting(Strategy):
    """Draws the budget's samples and counts. It looks after each wave if there is something to stop for.

    Attributes:
        wave: samples between two looks.
        confidence: stop when the answer is this sure; 1 stops only when it cannot be overtaken any more, which changes
            no answer. None: never look.
        price: stop when a sample is expected to add less accuracy than this for 1000 tokens. None: never look.
    """

    wave: int = Field(default=4, ge=1, le=256)
    confidence: float | None = Field(default=None, gt=0.0, le=1.0)
    price: float | None = Field(default=None, gt=0.0)

    @abstractmethod
    def open_vote(self, work: Workspace) -> Vote:
        """An empty vote."""

    async def solve(self, work: Workspace) -> Outcome:
        vote = self.open_vote(work)
        await vote.add(work.problem.given)
        left = self.most(work)
        leader = None
        while left > 0 and not self._settled(work, vote, left):
            fresh = await work.sample(min(self.wave, left) if self._looks else left)
            await vote.add(fresh)
            left = left - len(fresh) if fresh else 0
            leader = self._tell(work, vote, leader)
        if left == 0:
            work.ended = work.ended or self._why(work)
        return vote.conclude()

    def most(self, work: Workspace) -> int:
        """Samples that may be drawn."""
        return work.budget.samples

    @property
    def _looks(self) -> bool:
        return self.confidence is not None or self.price is not None

    def _settled(self, work: Workspace, vote: Vote, left: int) -> bool:
        if work.exhausted:
            return True
        if not vote.samples or not self._looks:
            return False
        if (vote.settles and not overtaken(vote.options, left)) or vote.sureness >= (self.confidence or math.inf):
            work.ended = work.ended or "confident"
        elif self.price is not None and not pays(vote.gain(left), _tokens(vote.samples), self.price):
            work.ended = work.ended or "saturated"
        return work.ended is not None

    def _why(self, work: Workspace) -> Ended | None:
        """Why it is over when all samples that may be drawn are."""
        if self.most(work) < work.budget.samples:
            return "saturated"
        return "samples" if self._looks else None

    def _tell(self, work: Workspace, vote: Vote, before: str | None) -> str | None:
        """Let who watches know of a new leader."""
        best = next(iter(vote.alternatives), None)
        if best is None or best.sample.answer == before:
            return before
        work.tell("answer", branch=best.sample.branch, value=best.weight, text=best.sample.text)
        return best.sample.answer


def _tokens(samples: Sequence[Sample]) -> float:
    """Mean length."""
    return sum(len(sample.tokens) for sample in samples) / len(samples)
