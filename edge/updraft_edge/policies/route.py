"""Mode `route`: one score sends the whole answer to one tier (E-LANG, arXiv 2203.00748; RouteLLM, arXiv 2406.18665)."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from updraft.sampling import Distribution, Sampled
from updraft_edge.seams import Decision, HandOver

__all__ = ["AnswerEnergy", "RoutePolicy", "mean_energy", "mean_entropy"]

log = logging.getLogger(__name__)

AnswerScore = Callable[[], Awaitable[float]]
"""How unsure the edge is of the whole answer; asked once, after the first run is drafted."""


class RoutePolicy:
    """The cloud answers from scratch where the score reaches the threshold; else every token of the edge stands.

    Nothing is committed, and no stream to the cloud opened, before that is decided. A score that is not finite counts
    as unsure.

    Attributes:
        threshold: as `ScorePolicy`'s.
        latest: the score where it was compared by the last call, else None.
        on_score: told the score, if it is finite.
    """

    def __init__(self, score: AnswerScore, threshold: float | None) -> None:
        self.threshold = threshold
        self.latest: float | None = None
        self.on_score: Callable[[float], None] = lambda score: None
        self.decided = False
        self._score = score

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        self.latest = None
        if self.decided:
            return Decision.COMMIT
        score = await self._score()
        self.decided = True
        if not math.isfinite(score):
            log.warning("the edge model's score of an answer is not finite; the cloud answers")
            return HandOver(keep=0)
        self.latest = score
        self.on_score(score)
        unsure = self.threshold is not None and score >= self.threshold
        return HandOver(keep=0) if unsure else Decision.COMMIT

    def returned(self) -> None:
        pass


class AnswerEnergy:
    """Mean free energy of the edge's answer so far, and the stop rule that waits for it.

    The score is the highest mean over `window` tokens that the answer has had, or over all of them in a shorter one.
    A run is the whole answer, or as much of it as it takes to be too bad.

    Args:
        threshold: from which score on it is too bad now; None never.
        decided: whether the tier is; runs are whatever is ready from then on.
        ready: the drafter has more at hand.
    """

    def __init__(
        self, window: int, threshold: Callable[[], float | None], decided: Callable[[], bool], ready: Callable[[], bool]
    ) -> None:
        self._recent: deque[float] = deque(maxlen=window)
        self._threshold = threshold
        self._decided = decided
        self._ready = ready
        self._highest = -math.inf

    def ends(self, run: Sequence[Sampled]) -> bool:
        if self._decided():
            return not self._ready()
        self._recent.append(-run[-1].distribution.energy)
        if len(self._recent) < (self._recent.maxlen or 1):
            return False
        mean = sum(self._recent) / len(self._recent)
        self._highest = max(self._highest, mean) if math.isfinite(mean) else math.nan
        threshold = self._threshold()
        return not math.isfinite(mean) or (threshold is not None and mean >= threshold)

    def learn(self, run: Sequence[Sampled], accepted: int) -> None:
        pass

    async def score(self) -> float:
        """The score of what has been drafted."""
        if self._highest == -math.inf and self._recent:
            return sum(self._recent) / len(self._recent)
        return self._highest


def mean_energy(rows: Sequence[Distribution]) -> float:
    """E-LANG's score of a prompt: less the mean log-sum-exp of its rows. NaN without a row."""
    return -sum(row.energy for row in rows) / len(rows) if rows else math.nan


def mean_entropy(rows: Sequence[Distribution]) -> float:
    """The mean entropy of a prompt's rows, nats. NaN without a row."""
    return sum(row.entropy for row in rows) / len(rows) if rows else math.nan
