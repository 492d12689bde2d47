"""A clock that stands still until it is moved."""

from __future__ import annotations

__all__ = ["Clock"]


class Clock:
    """Call it for the time, seconds; `move` it on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds
