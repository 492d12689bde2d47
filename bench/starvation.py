"""How long threads were ready to run and the machine had no time for them, as Linux counts it."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Self

__all__ = ["Starvation", "waited_in_queue"]

_EVERY_S: Final = 0.5
_KEPT_S: Final = 150.0  # longer than any answer is waited for

Waited = dict[int, float]


class Starvation:
    """Samples how long each thread of some processes has waited for a core; an async context manager.

    A thread that is blocked, by a mistake or for an answer, waits for no core and counts nothing.

    Args:
        processes: ids of the processes that there are now.
    """

    def __init__(self, processes: Callable[[], Iterable[int]]) -> None:
        self._processes = processes
        self._samples: deque[tuple[float, Waited]] = deque(maxlen=int(_KEPT_S / _EVERY_S))

    async def __aenter__(self) -> Self:
        self._samples.append((time.perf_counter(), self._sample()))
        self._sampling = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._sampling.cancel()
        await asyncio.gather(self._sampling, return_exceptions=True)

    def since(self, moment: float) -> float:
        """Seconds that the thread which waited longest has waited for a core since a moment (`time.perf_counter`).

        0 where the system does not tell.
        """
        earlier = [waited for at, waited in self._samples if at <= moment] or [self._samples[0][1]]
        before = earlier[-1]
        return max((waited - before.get(thread, 0.0) for thread, waited in self._sample().items()), default=0.0)

    def _sample(self) -> Waited:
        return {thread: waited for pid in self._processes() for thread, waited in waited_in_queue(pid).items()}

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            self._samples.append((time.perf_counter(), self._sample()))


def waited_in_queue(pid: int) -> Waited:
    """Seconds that each thread of a process has been ready without a core; empty where the system does not tell."""
    waited: Waited = {}
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return waited
    for thread in threads:
        try:
            _, delay, _ = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text(encoding="ascii").split()
        except (OSError, ValueError):  # it has ended, or the kernel keeps no account
            continue
        waited[int(thread)] = int(delay) * 1e-9
    return waited
