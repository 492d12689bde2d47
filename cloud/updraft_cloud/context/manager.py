"""Which session has which sequence of the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from updraft.config.kv import KvSettings
from updraft.engine.base import Engine
from updraft.errors import EngineFailure, Overloaded
from updraft_cloud.context.statistics import ContextStatistics

__all__ = ["ContextManager", "Holder"]

NONE = -1


class Holder(Protocol):
    """A session, as the manager sees it.

    Attributes:
        sequence: its sequence now, -1 for none. The manager sets it: before `join`, between any two turns for a
            holder that is idle, in `enter` and in `leave`. Never keep it across turns.
    """

    sequence: int

    @property
    def tokens(self) -> Sequence[int]:
        """The log. While the holder is idle, its sequence's cache holds a beginning of it."""
        ...

    @property
    def idle(self) -> bool:
        """It has no job: its sequence may be taken away between two turns."""
        ...


@dataclass(slots=True, eq=False)
class _Place:
    """What the manager knows of a holder."""

    holder: Holder
    tenant: str
    rebuildable: bool


class ContextManager:
    """Lends the engine's sequences to sessions. Used from the loop's thread alone.

    A session calls `join` when it opens, `enter` in every `plan` before it makes a run, and `leave` at its end. It may
    truncate its own sequence, and opens and closes none. The worker calls `begin_turn` once a turn of the loop, before
    anybody plans.

    Attributes:
        statistics: kept true all the time.
        give_way: frees one copy that no judged tree needs (`drop_copy`); False if there is none. Set by `Copies`.
    """

    def __init__(self, engine: Engine, settings: KvSettings | None = None) -> None:
        self.statistics = ContextStatistics()
        self.give_way: Callable[[], bool] = lambda: False
        self._engine = engine
        self._settings = settings or KvSettings()
        self._places: dict[Holder, _Place] = {}
        self._queue: dict[Holder, None] = {}  # who waits, the first first
        self._entered: set[Holder] = set()  # in this turn: their runs may be planned already
        self._copies: dict[int, Holder] = {}

    def join(self, holder: Holder, tenant: str = "", *, rebuildable: bool = True) -> None:
        """Know a session from now on; it has no sequence yet.

        Args:
            tenant: only sessions of the same one share prompts: how fast a prompt is computed tells who else had it.
            rebuildable: False where the cache cannot be computed from the log (hidden states that are gone): it is
                then neither dropped nor shared.
        """
        holder.sequence = NONE
        self._places[holder] = _Place(holder, tenant, rebuildable)
        self.statistics.sessions += 1

    def enter(self, holder: Holder) -> bool:
        """See that a session has a sequence for this turn. Its cache holds a beginning of the log, maybe an empty one
        and at most all tokens but the last; the session computes the rest.

        Sessions with a job are served first come, first served, and take the sequence of one that is idle. A session
        without a job, that computes ahead, takes only a sequence that no session has.

        Returns:
            False if no sequence can be had at the moment: ask again in the next turn.
        """
        if holder.sequence == NONE and not self._provide(self._places[holder]):
            return False
        self._entered.add(holder)
        return True

    def leave(self, holder: Holder, *, keep: bool = True) -> None:
        """Forget a session; unknown ones are ignored. Its cache may serve later ones unless `keep` is False."""
        if self._places.pop(holder, None) is None:
            return
        self._queue.pop(holder, None)
        self._entered.discard(holder)
        self.statistics.sessions -= 1
        self._release(holder)
        self._count()

    def begin_turn(self) -> None:
        """Nothing is planned: whoever is idle may lose its sequence again. Called once a turn of the loop."""
        self._entered.clear()

    def copy(self, holder: Holder) -> int:
        """A copy of a resident holder's sequence for a branch. Raises Overloaded if no sequence is free."""
        sequence = self._engine.fork(holder.sequence)
        self._copies[sequence] = holder
        self._count()
        return sequence

    def drop_copy(self, sequence: int) -> None:
        """Free a copy."""
        del self._copies[sequence]
        self._engine.close(sequence)
        self._count()

    def exchange(self, holder: Holder, copy: int) -> None:
        """The copy becomes the holder's sequence, and the holder's sequence the copy."""
        self._copies[holder.sequence] = self._copies.pop(copy)
        holder.sequence = copy

    def close(self) -> None:
        """Free host memory and disk. Safe to call twice."""

    def check_integrity(self) -> None:
        """Raises EngineFailure that names the first thing that is wrong."""
        owners = [place.holder.sequence for place in self._places.values() if place.holder.sequence != NONE]
        owners += self._copies
        if len(set(owners)) != len(owners):
            raise EngineFailure(f"a sequence has two owners: {sorted(owners)}")

    def _provide(self, place: _Place) -> bool:
        holder = place.holder
        busy = not holder.idle
        if busy:
            self._queue.setdefault(holder)
        waiting = [first for first in self._queue if not first.idle]
        if waiting and waiting[0] is not holder:
            return False
        try:
            holder.sequence = self._engine.open()
        except Overloaded:
            if not (self.give_way() or (busy and self._evict())):
                self._count()
                return False
            holder.sequence = self._engine.open()
        self._queue.pop(holder, None)
        self._count()
        return True

    def _evict(self) -> bool:
        """Take the sequence of an idle session."""
        for place in self._places.values():
            holder = place.holder
            if holder.sequence != NONE and holder.idle and place.rebuildable and holder not in self._entered:
                self.statistics.dropped += 1
                self.statistics.rebuilt_positions += self._engine.length(holder.sequence)
                self._release(holder)
                return True
        return False

    def _release(self, holder: Holder) -> None:
        if holder.sequence != NONE:
            self._engine.close(holder.sequence)
            holder.sequence = NONE

    def _count(self) -> None:
        self.statistics.resident = sum(place.holder.sequence != NONE for place in self._places.values())
        self.statistics.waiting = len(self._queue)
        self.statistics.copies = len(self._copies)
