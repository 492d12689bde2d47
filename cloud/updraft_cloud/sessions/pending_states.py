"""The context manager's share of a session: hidden states that wait to be computed (CE-CoLLM, arXiv 2411.02829)."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import islice

import numpy as np

from updraft.engine.base import Engine, FloatRows, Run, StagedEngine
from updraft.errors import ProtocolViolation
from updraft_cloud.frames import Hidden, HiddenEntry

__all__ = ["PendingStates", "entry_stages"]


def entry_stages(engine: Engine) -> dict[int, int]:
    """The stages that hidden states may enter, by the number of layers below them.

    Empty for an engine without stages, and for one that holds only the lower stages of its model.
    """
    if not isinstance(engine, StagedEngine) or engine.stages[-1].blocks:
        return {}
    return {stage.last: number for number, stage in enumerate(engine.stages[:-1], 1)}


class PendingStates:
    """Hidden states of consecutive positions that wait to enter the model. What the cache holds is let go.

    Memory is bounded by the frames' own check: no position lies beyond the context.

    Args:
        entry: how the session was opened.
        stage: the stage that the states enter.
    """

    def __init__(self, entry: HiddenEntry, stage: int) -> None:
        self._carry = entry.carry
        self._stage = stage
        self._start = 0
        self._rows: deque[FloatRows] = deque()

    @property
    def end(self) -> int:
        """The position after the last state that has arrived."""
        return self._start + len(self._rows)

    def take(self, frame: Hidden) -> None:
        """Add states; those at their position and after it are replaced. Raises ProtocolViolation for a gap."""
        if frame.carry != self._carry:
            raise ProtocolViolation(f"Hidden states arrived as {frame.carry}; the session takes {self._carry}.")
        if frame.position > self.end:
            raise ProtocolViolation(f"Hidden states start at {frame.position}; those before end at {self.end}.")
        self.forget(frame.position)
        self._rows.extend(frame.states)

    def forget(self, position: int) -> None:
        """Drop the states from a position on; the next ones may start there."""
        while self._rows and self.end > position:
            self._rows.pop()
        self._start = min(self._start, position)

    def release(self, position: int) -> None:
        """Let go of the states before a position: the cache holds what they led to."""
        while self._rows and self._start < position:
            self._rows.popleft()
            self._start += 1

    def enter(self, run: Run) -> Run:
        """The same run with its states in place of its tokens' embeddings."""
        first = run.position - self._start
        rows = list(islice(self._rows, first, first + len(run.tokens)))
        return replace(run, inputs=np.stack(rows), entry=self._stage)
