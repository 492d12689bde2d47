"""Escalation policies."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from updraft.mode_settings import SpanSettings
from updraft.sampling import Sampled
from updraft_edge.seams import Decision, HandOver

__all__ = ["Always", "ConfidentOnly", "EntropyWindow", "HandOverAll", "Never"]


class Never:
    """The edge commits everything (mode `edge`)."""

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        return Decision.COMMIT

    def returned(self) -> None:
        pass


class Always:
    """Every run is judged by the cloud (mode `draft`)."""

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        return Decision.VERIFY

    def returned(self) -> None:
        pass


class ConfidentOnly:
    """What the drafter proposes stands; where it proposes nothing the cloud writes one token (mode `exit`)."""

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        return Decision.COMMIT if run else Decision.VERIFY

    def returned(self) -> None:
        pass


class HandOverAll:
    """The cloud writes everything (mode `cloud`)."""

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        return HandOver()

    def returned(self) -> None:
        pass


class EntropyWindow:
    """Entropy Adaptive Decoding (arXiv 2502.06833, algorithm 1) with hysteresis (mode `span`).

    Hands over when the mean entropy of the last `window` tokens reaches `escalate`, at the earliest `min_stay` tokens
    after the last switch.
    """

    def __init__(self, settings: SpanSettings) -> None:
        self._settings = settings
        self._window: deque[float] = deque(maxlen=settings.window)
        self._stayed = 0

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        self._window.extend(sampled.distribution.entropy for sampled in run)
        self._stayed += len(run)
        settings = self._settings
        mean = sum(self._window) / len(self._window)
        if self._stayed < settings.min_stay or len(self._window) < settings.window or mean < settings.escalate:
            return Decision.COMMIT
        return HandOver(settings.hand_back, settings.window, settings.min_stay)

    def returned(self) -> None:
        self._stayed = 0
        self._window.clear()
