"""Tokens that were announced and have not been in a pass yet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["WaitingTokens"]

_PASSES = 4
_MOST = 512


class WaitingTokens:
    """Drafts of several sessions may wait at once. One that waits for a few passes is forgotten: its session ended."""

    def __init__(self) -> None:
        self._drafts: list[tuple[int, Sequence[int]]] = []
        self._pass = 0

    def __len__(self) -> int:
        return sum(len(tokens) for _, tokens in self._drafts)

    def put(self, tokens: Sequence[int]) -> None:
        """A draft has come."""
        self._drafts.append((self._pass, tokens))
        while len(self) > _MOST and len(self._drafts) > 1:
            self._drafts.pop(0)

    def begin(self, tokens: NDArray[np.int64]) -> None:
        """A pass begins: drafts that are in it wait no longer."""
        self._pass += 1
        here = set(tokens.tolist())
        kept = [(since, own) for since, own in self._drafts if not here.issuperset(own)]
        self._drafts = [draft for draft in kept if draft[0] > self._pass - _PASSES]

    def tokens(self) -> NDArray[np.int64]:
        """All that wait, shape (n,)."""
        return np.array([token for _, own in self._drafts for token in own], np.int64)
