"""Which session has which sequence of the engine, and who comes next."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from updraft.config.kv import KvSettings
from updraft.engine.base import Engine
from updraft.errors import Overloaded, UpdraftError
from updraft_cloud.context import integrity
from updraft_cloud.context.caches import Caches, Coming
from updraft_cloud.context.costs import Costs
from updraft_cloud.context.place import NONE, Holder, Place, State
from updraft_cloud.context.statistics import ContextStatistics

__all__ = ["ContextManager"]

log = logging.getLogger(__name__)

_CHECK_S = 10.0  # between two checks of integrity while nobody computes


class ContextManager:
    """Lends the engine's sequences to sessions. Used from the loop's thread alone.

    A session calls `join` when it opens, `enter` in every `plan` that is to make a run, and `leave` at its end. It may
    truncate its own sequence, and opens and closes none. The worker calls `begin_turn` once a turn of the loop, before
    anybody plans, and gives `costs.note_pass` to the loop as what observes its passes.

    Attributes:
        give_way: frees one copy that no judged tree needs (`drop_copy`); False if there is none. Set by `Copies`.
    """

    def __init__(self, engine: Engine, settings: KvSettings | None = None) -> None:
        self.give_way: Callable[[], bool] = lambda: False
        self._settings = settings or KvSettings()
        self._caches = Caches(engine, self._settings)
        self._places: dict[Holder, Place] = {}
        self._queue: dict[Place, None] = {}  # who waits, the first first
        self._entered: set[Place] = set()  # in this turn: their runs may be planned already
        self._awaiting: dict[Place, Coming] = {}  # who has no sequence because another computes its beginning
        self._joined = 0
        self._next_check = 0.0

    @property
    def statistics(self) -> ContextStatistics:
        """Counts, and what is held now."""
        statistics = self._caches.statistics
        statistics.sessions = len(self._places)
        statistics.copies = len(self._caches.copies)
        statistics.prefixes = sum(place.holder is None for place in self._caches.residents.values())
        statistics.resident = len(self._caches.residents) - statistics.prefixes
        statistics.waiting = len(self._queue)
        return statistics

    @property
    def costs(self) -> Costs:
        """Measured costs of caches."""
        return self._caches.costs

    def join(self, holder: Holder, tenant: str = "", *, rebuildable: bool = True) -> None:
        """Know a session from now on; it has no sequence yet.

        Args:
            tenant: only sessions of the same one share prompts: how fast a prompt is computed tells who else had it.
            rebuildable: False where the log does not say what the cache holds (hidden states came in place of tokens).
                It is then shared with nobody, and kept in host memory while the session has no sequence; where there is
                no room the session keeps its sequence.
        """
        holder.sequence = NONE
        self._joined += 1
        key = tenant if self._settings.share else f"{tenant} {self._joined}"
        self._places[holder] = Place(key, holder, rebuildable)

    def enter(self, holder: Holder) -> bool:
        """See that a session has a sequence for this turn. Its cache holds a beginning of the log, maybe an empty one
        and without the last token; the session computes the rest.

        Sessions with a job are served first come, first served, and take the sequence of one that is idle. A session
        without a job, which computes ahead, gets only a sequence that no session has, and only while none waits.
        Where another computes in this very turn what the log begins with, that is awaited and then copied.

        Returns:
            False if no sequence can be had at the moment: ask again in the next turn.

        Raises:
            EngineFailure: the cache of a session that is not rebuildable is lost.
        """
        place = self._places[holder]
        if place.sequence == NONE:
            if not self._provide(place):
                return False
        elif not place.busy and self._first() is not None:
            return False
        else:
            self._caches.touch(place)
        if place.busy or self._caches.cached(place) < len(place.tokens) - 1:
            self._entered.add(place)
        return True

    def leave(self, holder: Holder, *, keep: bool = True) -> None:
        """Forget a session; unknown ones are ignored. Its cache may serve later ones unless `keep` is False."""
        place = self._places.pop(holder, None)
        if place is None:
            return
        self._queue.pop(place, None)
        self._awaiting.pop(place, None)
        self._entered.discard(place)
        self._caches.part_with_state(place)
        if keep and self._settings.share and place.sequence != NONE:
            self._caches.retire(place)
        else:
            self._caches.release(place)

    def begin_turn(self) -> None:
        """Nothing is planned: whoever is idle may lose its sequence again."""
        self._entered.clear()
        now = time.monotonic()
        if now < self._next_check or any(place.busy for place in self._places.values()):
            return
        self._next_check = now + _CHECK_S
        try:
            self.check_integrity()
        except UpdraftError as error:
            log.critical("%s", error)
            self._caches.statistics.faults += 1

    def copy(self, holder: Holder) -> int:
        """A copy of a resident session's sequence, for a branch. Raises Overloaded if there is no sequence for it."""
        if not self._room(sessions=False, spared=self._places[holder], copies=False):
            raise Overloaded("All sequences are taken.")
        sequence = self._caches.engine.fork(holder.sequence)
        self._caches.copies[sequence] = holder
        return sequence

    def drop_copy(self, sequence: int) -> None:
        """Free a copy."""
        del self._caches.copies[sequence]
        self._caches.engine.close(sequence)

    def exchange(self, holder: Holder, copy: int) -> None:
        """The copy becomes the session's sequence, and the session's sequence a copy."""
        caches, place = self._caches, self._places[holder]
        caches.copies[place.sequence] = caches.copies.pop(copy)
        caches.residents[copy] = caches.residents.pop(place.sequence)
        place.move(copy)

    def truncate(self, holder: Holder, length: int) -> None:
        """Forget a session's positions from `length` on, wherever its cache is."""
        place = self._places[holder]
        place.computed = min(place.computed, length)
        if place.sequence != NONE:
            self._caches.cut(place.sequence, length)

    def close(self) -> None:
        """Free host memory and disk. Safe to call twice."""
        self._caches.store.close()

    def check_integrity(self) -> None:
        """Raises EngineFailure that names the first thing that is wrong."""
        integrity.check_integrity(self._caches, self._places.values(), self._settings)

    def _provide(self, place: Place) -> bool:
        """Give a place a sequence, if it is its turn."""
        if place.busy:
            self._queue.setdefault(place)
        if self._still_comes(self._awaiting.pop(place, None), place):
            return False
        if self._first() is not (place if place.busy else None):
            return False
        while True:
            way = self._caches.best(place)
            if self._still_comes(self._caches.coming(place, way, self._entered), place):
                return False
            if way.take or self._caches.free:
                break
            room = self._room(sessions=place.busy, spared=way.origin) or self._room(sessions=place.busy)
            if not room:
                return False  # else what is best has changed with what had to go
        self._caches.fill(place, way)
        self._queue.pop(place, None)
        return True

    def _still_comes(self, coming: Coming | None, place: Place) -> bool:
        """Whether what a place awaits is being computed: only by who has entered in this turn, and so plans a run.

        Nobody waits for one that rests, has failed or has lost its sequence, and no two wait for each other.
        """
        if coming is None or coming.origin not in self._entered:
            return False
        if self._caches.cached(coming.origin) >= coming.positions:
            return False
        self._awaiting[place] = coming
        return True

    def _first(self) -> Place | None:
        """Who has waited longest for a sequence and still does: neither a job that was cancelled, nor who awaits what
        another computes, which holds up nobody."""
        while self._queue and not next(iter(self._queue)).busy:
            del self._queue[next(iter(self._queue))]
        return next((place for place in self._queue if place.busy and place not in self._awaiting), None)

    def _room(self, *, sessions: bool, spared: Place | State | None = None, copies: bool = True) -> bool:
        """Whether a sequence is free now. Copies give way first, then entries and, with `sessions`, idle sessions."""
        if self._caches.free or (copies and self.give_way()):
            return True
        stay: set[Place | State | None] = {*self._entered, spared}
        while (victim := self._caches.victim(sessions=sessions, spared=stay)) is not None:
            if self._caches.evict(victim):
                return True
            stay.add(victim)
        return False
