"""An adaptive trigram table: which tokens came after the last two (ADED, AAAI 2025)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

__all__ = ["TrigramTable"]

_SUCCESSORS = 12  # ADED keeps the top 12 of each row
_CAP = 75.0  # ADED: +0.04 for a token seen, at most 3


class TrigramTable:
    """Rows of successor counts, one for each pair of tokens; a token seen adds 1 to its row, as ADED adds 0.04.

    A row that reaches its cap is halved, so that it follows what the text does now. Rows that were not written to for
    longest go first.

    Args:
        rows: pairs it keeps, at most.
    """

    def __init__(self, *, rows: int) -> None:
        if rows < 1:
            raise ValueError("A table needs room for a row.")
        self._most = rows
        self._rows: OrderedDict[tuple[int, int], dict[int, float]] = OrderedDict()
        self._last: tuple[int, int] | None = None
        self._before: int | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, tokens: Sequence[int]) -> None:
        """Count what follows each pair of the text, to which `tokens` are appended."""
        for token in tokens:
            if self._last is not None:
                self._count(self._last, token)
            self._last = None if self._before is None else (self._before, token)
            self._before = token

    def end(self) -> None:
        """What is put next has nothing to do with what was put before."""
        self._last = self._before = None

    def row(self, first: int, second: int) -> Mapping[int, float]:
        """Counts of the tokens that came after a pair."""
        return self._rows.get((first, second), _NOTHING)

    def _count(self, pair: tuple[int, int], token: int) -> None:
        row = self._rows.get(pair)
        if row is None:
            self._rows[pair] = {token: 1.0}
            if len(self._rows) > self._most:
                self._rows.popitem(last=False)
            return
        self._rows.move_to_end(pair)
        if token not in row and len(row) >= _SUCCESSORS:
            del row[min(row, key=row.__getitem__)]
        row[token] = row.get(token, 0.0) + 1.0
        if row[token] >= _CAP:
            for successor in row:
                row[successor] /= 2


_NOTHING: Mapping[int, float] = {}
