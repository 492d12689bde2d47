"""A circuit breaker: after some failures in a row nobody waits for the cloud until a probe has succeeded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum

from updraft.errors import Overloaded, UpdraftError

__all__ = ["Breaker", "BreakerState", "ProbingBreaker"]


class BreakerState(StrEnum):
    CLOSED = "closed"  # calls go through
    OPEN = "open"  # calls fail at once
    HALF_OPEN = "half_open"  # one probe is under way


class Breaker:
    """Counts failures in a row; half-opens for one probe every `probe_interval_s` while open.

    Args:
        failures: failures in a row that open it.
        clock: monotonic seconds (tests pass their own).
    """

    def __init__(self, failures: int, probe_interval_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._interval = probe_interval_s
        self._clock = clock
        self._failures = 0
        self._opened_at = 0.0
        self.state = BreakerState.CLOSED

    @property
    def closed(self) -> bool:
        return self.state is BreakerState.CLOSED

    def probe_due(self) -> bool:
        """True for one caller once the interval has passed; that caller probes and reports the result."""
        if self.state is not BreakerState.OPEN or self._clock() - self._opened_at < self._interval:
            return False
        self.state = BreakerState.HALF_OPEN
        return True

    def success(self) -> None:
        self._failures = 0
        self.state = BreakerState.CLOSED

    def failure(self) -> None:
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN or self._failures >= self._limit:
            self.state = BreakerState.OPEN
            self._opened_at = self._clock()


class ProbingBreaker(Breaker):
    """A breaker that, while open, probes in the background until what it guards answers again.

    Args:
        probe: asks what it guards; raises UpdraftError while it is away.
        on_state: told the state whenever it may have changed.
    """

    def __init__(
        self,
        failures: int,
        probe_interval_s: float,
        probe: Callable[[], Awaitable[object]],
        on_state: Callable[[BreakerState], None] | None = None,
    ) -> None:
        super().__init__(failures, probe_interval_s)
        self._probe = probe
        self._on_state = on_state or (lambda state: None)
        self._probing: asyncio.Task[None] | None = None

    def failure(self) -> None:
        super().failure()
        self._on_state(self.state)
        if not self.closed and (self._probing is None or self._probing.done()):
            self._probing = asyncio.create_task(self._probe_until_back())

    def success(self) -> None:
        super().success()
        self._on_state(self.state)

    async def close(self) -> None:
        """Probe no more."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
            self._probing = None

    async def _probe_until_back(self) -> None:
        while not self.closed:
            await asyncio.sleep(self._interval)
            if not self.probe_due():
                continue
            self._on_state(self.state)
            try:
                await self._probe()
            except Overloaded:  # it is there
                self.success()
            except UpdraftError:
                self.failure()
            else:
                self.success()
