"""Who has a sequence, a session or what one has left, and what a saved cache is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

__all__ = ["NONE", "Holder", "Place", "State"]

NONE = -1


class Holder(Protocol):
    """A session, as the manager sees it.

    Attributes:
        sequence: its sequence now, -1 for none. Only the manager sets it: in `join`, `enter`, `exchange` and `leave`,
            and while others enter if the holder is idle. Never keep it from one turn to the next.
    """

    sequence: int

    @property
    def tokens(self) -> list[int]:
        """The log. The sequence's cache holds a beginning of it, and after it only tokens of the job under way."""
        ...

    @property
    def idle(self) -> bool:
        """It has no job: its sequence may be taken away."""
        ...


@dataclass(slots=True, eq=False)
class State:
    """A saved cache of `tokens`: its bytes are in host memory, or in a file.

    Attributes:
        wanted: by whom: sessions that have no sequence and will come back to it.
        pinned: its session cannot compute it again: it stays in host memory until the session has it back.
    """

    tenant: str
    tokens: list[int]
    size: int
    data: bytes | None = None
    file: Path | None = None
    wanted: set[Place] = field(default_factory=set)
    pinned: bool = False


@dataclass(slots=True, eq=False)
class Place:
    """A holder that has joined, or the cache of one that has left: an entry, which has no holder any more.

    Attributes:
        shared: whether the log alone says what the cache holds; else it is neither shared nor dropped.
        kept: an entry's tokens, those that its cache holds.
        computed: positions that the cache had when the sequence was last taken away, and that still fit the log.
        rank: the clock of evictions when it was used last (see `Caches.victim`).
        state: a saved state that it comes back to.
    """

    tenant: str
    holder: Holder | None
    shared: bool = True
    sequence: int = NONE
    kept: list[int] = field(default_factory=list)
    computed: int = 0
    rank: float = 0.0
    state: State | None = None

    @property
    def tokens(self) -> list[int]:
        return self.kept if self.holder is None else self.holder.tokens

    @property
    def busy(self) -> bool:
        return self.holder is not None and not self.holder.idle

    def move(self, sequence: int) -> None:
        self.sequence = sequence
        if self.holder is not None:
            self.holder.sequence = sequence

    def want(self, state: State | None) -> None:
        """Come back to this state, or to none."""
        if self.state is not None:
            self.state.wanted.discard(self)
        self.state = state
        if state is not None:
            state.wanted.add(self)
