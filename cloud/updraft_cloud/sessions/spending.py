"""What answering a frame takes of the cloud."""

from __future__ import annotations

import time

from updraft.engine.base import Run
from updraft_cloud.frames import Spent

__all__ = ["Spending"]


class Spending:
    """Counts from a frame's arrival, or the answer before, to the next answer.

    Args:
        layers: of the model, that a position goes through.
    """

    def __init__(self, layers: int) -> None:
        self._layers = layers
        self._spent = Spent()
        self._since = 0.0
        self._planned = 0.0  # when the session last wanted a place in a pass
        self._queues = False  # no pass has worked on the frame yet

    def begin(self, arrived: float) -> None:
        """A frame that arrived then (`time.monotonic`) is being answered from now on."""
        self._since = arrived
        self._queues = True

    def plan(self) -> None:
        self._planned = time.monotonic()

    def note_started(self) -> None:
        """A pass has worked on the frame."""
        if self._queues:
            self._queues = False
            self._spent.queued = max(0, int((self._planned - self._since) * 1e6))

    def note_run(self, run: Run, log_length: int) -> None:
        """A pass has computed a run: prefill in the log without its last token, else positions of an answer."""
        prefilled = max(0, min(log_length - 1, run.position + len(run.tokens)) - run.position)
        self._spent.prefilled += prefilled
        self._spent.layers += len(run.tokens) * self._layers
        if run.rows or run.position >= log_length - 1:
            self._spent.passes += 1
            self._spent.positions += len(run.tokens) - prefilled

    def note_branches(self, passes: int, positions: int) -> None:
        """Branches of a tree took so much beside its run."""
        self._spent.passes += passes
        self._spent.positions += positions
        self._spent.layers += positions * self._layers

    def take(self) -> Spent:
        """What was counted; begin anew."""
        spent, self._spent = self._spent, Spent()
        now = time.monotonic()
        spent.micros = int((now - self._since) * 1e6)
        self._since = now
        return spent
