"""How long the way to the cloud is: a ping now and then, in the background, that carries nothing of any request."""

from __future__ import annotations

import asyncio
import contextlib
import time

from updraft.errors import UpdraftError
from updraft_edge.link import CloudLink

__all__ = ["LinkGauge"]


class LinkGauge:
    """Measures the round trip of a link with `Describe`.

    Args:
        fresh_s: for so long a measurement holds, seconds.

    Attributes:
        round_trip_s: as last measured; None before.
    """

    def __init__(self, link: CloudLink, *, fresh_s: float = 20.0) -> None:
        self.round_trip_s: float | None = None
        self._link = link
        self._fresh_s = fresh_s
        self._asked_at = -float("inf")
        self._task: asyncio.Task[None] | None = None

    def refresh(self) -> None:
        """Measure in the background if the last time is long ago; never waits and raises nothing."""
        now = time.monotonic()
        idle = self._task is None or self._task.done()
        if idle and now - self._asked_at >= self._fresh_s and self._link.settings.address and self._link.breaker.closed:
            self._asked_at = now
            self._task = asyncio.create_task(self.measure())

    async def measure(self) -> None:
        """Measure now; the old measurement stays if the cloud does not answer."""
        with contextlib.suppress(UpdraftError):
            # The first call may have to connect; two in a row also take the edge off a busy moment.
            self.round_trip_s = min([await self._ping() for _ in range(3)][1:])

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _ping(self) -> float:
        began = time.perf_counter()
        await self._link.describe()
        return time.perf_counter() - began
