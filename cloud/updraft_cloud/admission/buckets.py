"""Token buckets: how much may pass in a time, and what a tenant has left."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Bucket", "Buckets"]


class Bucket:
    """A token bucket with reservations, so that those who wait go in the order in which they came.

    Until any moment t after its first use at most `rate * t + burst` has passed, and what the largest amount had above
    `burst`: a larger one passes once the bucket is full, and is paid off afterwards.

    Args:
        rate: units that come back in a second.
        burst: units that it holds.
        clock: monotonic seconds.
    """

    def __init__(self, rate: float, burst: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._level = burst
        self._filled = clock()

    @property
    def full(self) -> bool:
        self._fill()
        return self._level >= self._burst

    def wait(self, amount: float) -> float:
        """Seconds until so much may pass, after all that is reserved."""
        self._fill()
        return max(0.0, (min(amount, self._burst) - self._level) / self._rate)

    def take(self, amount: float) -> float:
        """Reserve so much: it may pass after the seconds that are returned, and counts from now on."""
        seconds = self.wait(amount)
        self._level -= amount
        return seconds

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._filled) * self._rate)
        self._filled = now


class Buckets:
    """A bucket for each tenant, forgotten when it is full again.

    Args:
        rate: of each bucket; None for no limit.
        burst: of each bucket.
    """

    def __init__(
        self, rate: float | None, burst: float, *, clock: Callable[[], float] = time.monotonic, most: int = 1024
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._most = most
        self._buckets: dict[str, Bucket] = {}

    def wait(self, tenant: str, amount: float) -> float:
        """Seconds until so much of a tenant may pass."""
        bucket = self._bucket(tenant)
        return 0.0 if bucket is None else bucket.wait(amount)

    def take(self, tenant: str, amount: float) -> float:
        """Reserve so much; the seconds after which it may pass."""
        bucket = self._bucket(tenant)
        return 0.0 if bucket is None else bucket.take(amount)

    def __len__(self) -> int:
        return len(self._buckets)

    def _bucket(self, tenant: str) -> Bucket | None:
        if self._rate is None:
            return None
        if tenant not in self._buckets:
            if len(self._buckets) >= self._most:
                self._buckets = {name: bucket for name, bucket in self._buckets.items() if not bucket.full}
            self._buckets[tenant] = Bucket(self._rate, self._burst, clock=self._clock)
        return self._buckets[tenant]
