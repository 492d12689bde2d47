"""The output matrix that all exits and the model's end share: normalised states to logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from updraft.engine.base import FloatRows

__all__ = ["OutputMatrix"]


class OutputMatrix:
    """Reads the matrix once for all rows of a pass. Its logits stay valid until the next call.

    Args:
        session: `features`, shape (1, rows, width), to `logits`.
        width: of a hidden state.
        vocabulary: of a row of logits.
    """

    def __init__(self, session: Any, width: int, vocabulary: int) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._width, self._vocabulary = width, vocabulary
        self._features: FloatRows = np.empty((0, width), np.float32)
        self._logits: FloatRows = np.empty((0, vocabulary), np.float32)
        self._bound = 0  # rows

    def logits(self, features: Sequence[FloatRows]) -> list[FloatRows]:
        """Read-only rows of logits for each array of states."""
        counts = [len(rows) for rows in features]
        total = sum(counts)
        if total:
            if total != self._bound:
                self._bind(total)
            np.concatenate(features, out=self._features[:total])
            self._session.run_with_iobinding(self._binding)
        end, rows = 0, []
        for count in counts:
            view = self._logits[end : end + count]
            view.flags.writeable = False
            rows.append(view)
            end += count
        return rows

    def _bind(self, rows: int) -> None:
        if rows > len(self._logits):
            self._features = np.empty((rows, self._width), np.float32)
            self._logits = np.empty((rows, self._vocabulary), np.float32)
        self._bound = rows
        place = ("cpu", 0, np.float32)
        self._binding.bind_input("features", *place, (1, rows, self._width), self._features.ctypes.data)
        self._binding.bind_output("logits", *place, (1, rows, self._vocabulary), self._logits.ctypes.data)
