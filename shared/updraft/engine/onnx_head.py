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
        self._features: FloatRows = np.empty((0, width), np.float32)
        self._logits: FloatRows = np.empty((0, vocabulary), np.float32)

    def logits(self, features: Sequence[FloatRows]) -> list[FloatRows]:
        """Read-only rows of logits for each array of states."""
        counts = [len(rows) for rows in features]
        total = sum(counts)
        if total:
            self._compute(features[0] if len(features) == 1 else self._gathered(features, total))
        ends = np.cumsum(counts).tolist()
        return [self._view(end - count, end) for count, end in zip(counts, ends, strict=True)]

    def _gathered(self, features: Sequence[FloatRows], total: int) -> FloatRows:
        if total > len(self._features):
            self._features = np.empty((total, self._features.shape[1]), np.float32)
        return np.concatenate(features, out=self._features[:total])

    def _compute(self, features: FloatRows) -> None:
        rows, width = features.shape
        if rows > len(self._logits):
            self._logits = np.empty((rows, self._logits.shape[1]), np.float32)
        logits = self._logits[:rows]
        binding = self._binding
        binding.bind_input("features", "cpu", 0, np.float32, (1, rows, width), features.ctypes.data)
        binding.bind_output("logits", "cpu", 0, np.float32, (1, *logits.shape), logits.ctypes.data)
        self._session.run_with_iobinding(binding)

    def _view(self, start: int, end: int) -> FloatRows:
        view = self._logits[start:end]
        view.flags.writeable = False
        return view
