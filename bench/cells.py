"""An engine that counts what its sequences hold."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from updraft.engine.base import Engine, Output, Run
from updraft.errors import Overloaded

__all__ = ["CellCounter", "distinct_cells"]


class CellCounter:
    """Passes everything on to an engine, and counts the cells of its caches after every pass. Used by one loop.

    Args:
        engine: the engine.
        most: sequences that may be open at once.

    Attributes:
        cells: positions in all sequences together, at peak; a copy holds its own.
        distinct: at peak, positions that differ in their token or in what comes before it.
    """

    def __init__(self, engine: Engine, most: int) -> None:
        self.max_sequences = most
        self.cells = 0
        self.distinct = 0
        self._engine = engine
        self._held: dict[int, list[int]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def open(self) -> int:
        self._check_room()
        sequence = self._engine.open()
        self._held[sequence] = []
        return sequence

    def fork(self, sequence: int) -> int:
        self._check_room()
        copy = self._engine.fork(sequence)
        self._held[copy] = list(self._held[sequence])
        return copy

    def forward(self, runs: Sequence[Run]) -> list[Output]:
        outputs = self._engine.forward(runs)
        for run in runs:
            self._held[run.sequence] += run.tokens
        self.cells = max(self.cells, sum(map(len, self._held.values())))
        self.distinct = max(self.distinct, distinct_cells(list(self._held.values())))
        return outputs

    def truncate(self, sequence: int, length: int) -> None:
        self._engine.truncate(sequence, length)
        del self._held[sequence][length:]

    def close(self, sequence: int) -> None:
        self._engine.close(sequence)
        del self._held[sequence]

    def _check_room(self) -> None:
        if len(self._held) >= self.max_sequences:
            raise Overloaded("All sequences are taken.")


def distinct_cells(caches: Sequence[Sequence[int]]) -> int:
    """Nodes of the tree that the caches' tokens make, its root left out."""
    ordered = sorted(map(list, caches))
    return sum(map(len, ordered)) - sum(_common(one, other) for one, other in pairwise(ordered))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((index for index, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))
