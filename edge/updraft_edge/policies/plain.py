"""Escalation policies."""

from __future__ import annotations

from collections.abc import Sequence

from updraft.sampling import Sampled
from updraft_edge.seams import Decision, HandOver

__all__ = ["Always", "ConfidentOnly", "HandOverAll", "Never"]


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
