"""What tasks of the engine loop want, and which of them get a place in the next pass."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple

from updraft.engine.base import Run

__all__ = ["Priority", "Want"]


class Priority(IntEnum):
    """Order in which runs get a place in a pass."""

    VERIFY = 0  # somebody waits for it across a network
    WRITE = 1
    SCORE = 2
    PREFILL = 3


class Want(NamedTuple):
    """What a task wants computed next.

    Attributes:
        priority: PREFILL for runs without rows only; the pass may take just the beginning of such a run.
        run: of the task's own sequence.
        tenant: on whose account it is computed; passes are shared out fairly among them.
        deadline: `time.monotonic()` after which nobody needs the result any more.
    """

    priority: Priority
    run: Run
    tenant: str = ""
    deadline: float = math.inf
