"""Which processor cores each tier of the demonstration gets."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from updraft.process import pin_to_cores

__all__ = ["CoreSplit", "pinned", "split_cores", "usable_cores"]


@dataclass(frozen=True, slots=True)
class CoreSplit:
    """Cores of the tiers; None where the system cannot pin a process.

    Attributes:
        threads: engine threads of each tier.
    """

    edge: tuple[int, ...] | None
    cloud: tuple[int, ...] | None
    threads: int

    @property
    def apart(self) -> bool:
        """Each tier has cores of its own."""
        return self.edge is not None and self.cloud is not None and not set(self.edge) & set(self.cloud)

    def sentence(self) -> str:
        """What this means for the figures, for people."""
        if self.apart:
            return "Both tiers share one machine here, each pinned to its own half of the cores."
        if self.edge is not None:
            return "Both tiers share one core here, so each slows the other down."
        return "Both tiers share one machine here, and this system cannot pin them to cores of their own."


def usable_cores() -> tuple[int, ...] | None:
    """Numbers of the cores that this process may use; None where the system does not say."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def split_cores(cores: Sequence[int] | None) -> CoreSplit:
    """Halves of the cores, equally large so that neither tier has an advantage; a single core serves both."""
    if cores is None:
        return CoreSplit(None, None, max(1, (os.cpu_count() or 1) // 2))
    half = len(cores) // 2
    if half == 0:
        return CoreSplit(tuple(cores), tuple(cores), 1)
    return CoreSplit(tuple(cores[:half]), tuple(cores[half : 2 * half]), half)


@contextlib.contextmanager
def pinned(cores: Sequence[int] | None) -> Iterator[None]:
    """Keep this thread, and the threads and processes that it starts, on these cores for the while."""
    before = usable_cores()
    pin_to_cores(cores)
    try:
        yield
    finally:
        pin_to_cores(before)
