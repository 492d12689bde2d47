"""The policy of the mode `span`: any token score, compared over a window, with up to three verdicts besides keep."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence

from updraft.mode_settings import SpanSettings
from updraft.sampling import Sampled
from updraft_edge.answer import Answer
from updraft_edge.policies.scores import LearnedScore, TokenScore
from updraft_edge.seams import Decision, HandOver

__all__ = ["ScorePolicy"]

log = logging.getLogger(__name__)

_ASKING = frozenset({"learned", "margin"})  # from 0 to 1, of one token


class ScorePolicy:
    """Entropy Adaptive Decoding (arXiv 2502.06833, algorithm 1) with hysteresis, for any score.

    Hands over when the mean score of the last `window` tokens reaches `threshold`, at the earliest `min_stay` tokens
    after the last switch. From `ask` on the cloud judges a token alone (R2R, Co-LLM; scores learned and margin). With a
    learned score it hands over at once, dropping the token, from `give_up` on (stop-and-exit, ICSE 2024).

    A score that is not finite counts as unsure: the cloud takes over at once, and nothing is lost.

    Attributes:
        threshold: hands over from here on, None never; a budget moves it.
        latest: what the last run was compared by; None where it could not have been handed over.
    """

    def __init__(self, settings: SpanSettings, score: TokenScore, answer: Answer, threshold: float | None) -> None:
        self.threshold = threshold
        self.latest: float | None = None
        self._settings = settings
        self._score = score
        self._answer = answer
        # One uniform number a token: the mean of several would not be uniform.
        self._window: deque[float] = deque(maxlen=1 if settings.score == "random" else settings.window)
        self._stayed = 0
        self._warned = False

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        place = self._answer.log.generated_length
        scores = [self._score.note(sampled, place + number) for number, sampled in enumerate(run)]
        self.latest = None
        settings = self._settings
        if not all(map(math.isfinite, scores)):
            self._warn()
            return self._hand_over()
        self._window.extend(scores)
        self._stayed += len(run)
        if self._gives_up():
            return self._hand_over(keep=len(run) - 1)
        if self._stayed >= settings.min_stay and len(self._window) == self._window.maxlen:
            self.latest = self._score.of_mean(sum(self._window) / len(self._window))
            if self.threshold is not None and self.latest >= self.threshold:
                return self._hand_over()
        asks = settings.ask is not None and settings.score in _ASKING and scores and scores[-1] >= settings.ask
        return Decision.VERIFY if asks else Decision.COMMIT

    def returned(self) -> None:
        self._stayed = 0
        self._window.clear()
        self._score.restart()

    def _gives_up(self) -> bool:
        limit = self._settings.give_up
        return limit is not None and isinstance(self._score, LearnedScore) and self._score.hopeless >= limit

    def _hand_over(self, keep: int | None = None) -> HandOver:
        settings = self._settings
        return HandOver(settings.hand_back, settings.window, settings.min_stay, keep=keep)

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            log.warning("the edge model's score %s is not finite; the cloud takes over", self._settings.score)
