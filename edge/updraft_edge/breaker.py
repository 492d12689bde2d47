"""A circuit breaker: after some failures in a row nobody waits for the cloud until a probe has succeeded."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

__all__ = ["Breaker", "BreakerState"]


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
