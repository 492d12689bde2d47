"""Which branch has which sequence of the engine: the seam, and the plain choice for an engine without a manager."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from updraft.engine.base import Engine
from updraft.errors import Overloaded

__all__ = ["NONE", "EnginePlaces", "Holder", "Places"]

NONE: Final = -1
_WORTH: Final = 16  # positions that are worth waiting for while another computes them


class Holder(Protocol):
    """Who wants a sequence.

    Attributes:
        sequence: its sequence now, -1 for none. Only `Places` sets it; never keep it from one turn to the next.
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


class Places(Protocol):
    """Lends sequences, and lets holders of one beginning share what was computed of it. Loop thread only.

    The cloud's context manager is one.
    """

    def join(self, holder: Holder, tenant: str = "") -> None:
        """Know a holder from now on; it has no sequence yet."""
        ...

    def enter(self, holder: Holder) -> bool:
        """See that it has a sequence for this turn; False if none can be had: ask again in the next turn."""
        ...

    def leave(self, holder: Holder, *, keep: bool = True) -> None:
        """Forget a holder; unknown ones are ignored. Its cache may serve others unless `keep` is False."""
        ...


class _Kept:
    """The cache of a holder that has left, until its sequence is needed."""

    idle = True

    def __init__(self, sequence: int, tokens: list[int]) -> None:
        self.sequence = sequence
        self.tokens = tokens


class EnginePlaces:
    """Sequences of an engine without a context manager: the edge's, a bench's.

    Who enters gets a copy of the longest beginning that any sequence of its tenant holds, also where it has to wait for
    another that is computing it. Where no sequence is free, it takes the idle one that was used longest ago. Tasks that
    open sequences of their own may use the engine beside it.

    Args:
        share: False computes everything anew for each holder, as if it were a request of its own.
    """

    def __init__(self, engine: Engine, *, share: bool = True) -> None:
        self._engine = engine
        self._share = share
        self._holders: dict[Holder, None] = {}  # who has a sequence; the one used longest ago first
        self._tenants: dict[Holder, str] = {}  # of all that have joined, and of caches

    def join(self, holder: Holder, tenant: str = "") -> None:
        holder.sequence = NONE
        self._tenants[holder] = tenant

    def enter(self, holder: Holder) -> bool:
        if holder.sequence == NONE and not self._provide(holder):
            return False
        self._holders.pop(holder, None)
        self._holders[holder] = None
        return True

    def leave(self, holder: Holder, *, keep: bool = True) -> None:
        tenant = self._tenants.pop(holder, "")
        if holder not in self._holders:
            return
        del self._holders[holder]
        if keep and self._share:
            kept = _Kept(holder.sequence, holder.tokens[: self._engine.length(holder.sequence)])
            self._holders[kept], self._tenants[kept] = None, tenant
        else:
            self._engine.close(holder.sequence)
        holder.sequence = NONE

    def close(self) -> None:
        """Free all sequences."""
        for holder in self._holders:
            self._engine.close(holder.sequence)
            holder.sequence = NONE
        self._holders.clear()
        self._tenants.clear()

    def _provide(self, holder: Holder) -> bool:
        tenant = self._tenants[holder]
        others = [other for other in self._holders if self._share and self._tenants[other] == tenant]
        origin = max(others, key=lambda other: self._shared(other, holder), default=None)
        shared = self._shared(origin, holder) if origin is not None else 0
        if self._share and self._coming(holder) >= shared + _WORTH:
            return False
        while (sequence := self._copy(origin if shared else None)) == NONE:
            if not self._evict(spared=origin):
                if origin is None or not origin.idle:
                    return False
                sequence = self._take(origin)
                break
        self._engine.truncate(sequence, shared)
        holder.sequence = sequence
        return True

    def _copy(self, origin: Holder | None) -> int:
        """A sequence with the same cache, an empty one for no origin; NONE if none is free."""
        try:
            return self._engine.open() if origin is None else self._engine.fork(origin.sequence)
        except Overloaded:
            return NONE

    def _shared(self, origin: Holder, holder: Holder) -> int:
        """Positions of a holder's log, without its last token, that another's cache has."""
        return _common(origin.tokens, holder.tokens, min(self._engine.length(origin.sequence), len(holder.tokens) - 1))

    def _coming(self, holder: Holder) -> int:
        """Positions of a holder's log that a cache will have soon. Whoever has a sequence and a job computes in this
        turn, and waits for nobody."""
        tenant = self._tenants[holder]
        busy = (other for other in self._holders if not other.idle and self._tenants[other] == tenant)
        return max((_common(other.tokens, holder.tokens, len(holder.tokens) - 1) for other in busy), default=0)

    def _evict(self, *, spared: Holder | None) -> bool:
        victim = next((other for other in self._holders if other.idle and other is not spared), None)
        if victim is None:
            return False
        del self._holders[victim]
        if isinstance(victim, _Kept):
            del self._tenants[victim]
        self._engine.close(victim.sequence)
        victim.sequence = NONE
        return True

    def _take(self, origin: Holder) -> int:
        """The only idle sequence is the one to copy: it changes hands."""
        del self._holders[origin]
        if isinstance(origin, _Kept):
            del self._tenants[origin]
        sequence, origin.sequence = origin.sequence, NONE
        return sequence


def _common(one: Sequence[int], other: Sequence[int], most: int) -> int:
    """Tokens that two logs begin with alike, at most so many."""
    low, high = 0, min(most, len(one), len(other))
    while low < high:  # slices are compared at once, tokens one by one
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
