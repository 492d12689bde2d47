"""Sessions as the context manager sees them, computed by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from updraft.config.kv import KvSettings
from updraft.engine.base import Engine
from updraft.engine.loop import next_run
from updraft_cloud.context import ContextManager

__all__ = ["Sheet", "alone", "manager_of", "turn"]


class Sheet:
    """A holder with a log; `compute` does what a session's jobs do."""

    def __init__(
        self,
        manager: ContextManager,
        engine: Engine,
        tokens: Sequence[int],
        tenant: str = "",
        *,
        rebuildable: bool = True,
    ) -> None:
        self.tokens = list(tokens)
        self.idle = True
        self.sequence = -1
        self.computed = 0  # positions, for the last job
        self.row: NDArray[np.float32] | None = None  # of the last job that `turn` ended
        self._manager, self._engine = manager, engine
        manager.join(self, tenant, rebuildable=rebuildable)

    def begin(self) -> None:
        """A job begins, which `turn` computes."""
        self.idle, self.computed, self.row = False, 0, None

    def compute(self, *, stay: bool = False) -> NDArray[np.float32] | None:
        """A job: logits after the whole log, and after it the cache without the last token. None if no place is free.

        With `stay` the job does not end.
        """
        self.idle = False
        self._manager.begin_turn()
        if not self._manager.enter(self):
            return None
        self.computed = 0
        row: NDArray[np.float32] | None = None
        while row is None:
            run = next_run(self._engine, self.sequence, self.tokens, 1, 48)
            (output,) = self._engine.forward([run])
            self.computed += len(run.tokens)
            row = output.logits[0].copy() if run.rows else None
        self._engine.truncate(self.sequence, len(self.tokens) - 1)
        self.idle = not stay
        self._manager.begin_turn()
        return row


def turn(manager: ContextManager, engine: Engine, sheets: Sequence[Sheet], *, chunk: int = 48) -> list[Sheet]:
    """A turn of the loop: who is not idle plans, and a pass computes one run of each that may.

    Returns who had a run. A job ends with its last run, whose row is then in `row`.
    """
    manager.begin_turn()
    able = [sheet for sheet in sheets if not sheet.idle and manager.enter(sheet)]
    runs = [next_run(engine, sheet.sequence, sheet.tokens, 1, chunk) for sheet in able]
    for sheet, run, output in zip(able, runs, engine.forward(runs) if runs else (), strict=True):
        sheet.computed += len(run.tokens)
        if run.rows:
            sheet.row, sheet.idle = output.logits[0].copy(), True
            engine.truncate(sheet.sequence, len(sheet.tokens) - 1)
    manager.begin_turn()
    return able


def alone(engine: Engine, tokens: Sequence[int]) -> NDArray[np.float32]:
    """Logits after these tokens, computed from nothing in an engine that has a free sequence."""
    manager = ContextManager(engine)
    sheet = Sheet(manager, engine, tokens)
    row = sheet.compute()
    assert row is not None
    manager.leave(sheet, keep=False)
    manager.close()
    return row


def manager_of(engine: Engine, **settings: object) -> ContextManager:
    """A manager with blocks of 8 tokens, for which computing is dear and copying cheap."""
    manager = ContextManager(engine, KvSettings.model_validate({"min_prefix": 8, **settings}))
    manager.costs.position_s.note(1e6)
    return manager
