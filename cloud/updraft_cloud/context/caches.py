"""What the engine's sequences hold, where a log's cache can come from, and what becomes of one that has to go."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from typing import NamedTuple

from updraft.config.kv import KvSettings
from updraft.engine.base import Engine
from updraft.errors import EngineFailure, UpdraftError
from updraft_cloud.context.costs import Costs
from updraft_cloud.context.place import NONE, Holder, Place, State
from updraft_cloud.context.prefixes import PrefixIndex, common_length
from updraft_cloud.context.statistics import ContextStatistics
from updraft_cloud.context.store import StateStore

__all__ = ["Caches", "Coming", "Way"]

log = logging.getLogger(__name__)


class Way(NamedTuple):
    """A way to fill a sequence.

    Attributes:
        seconds: what it costs, with computing the rest of the log.
        positions: of the log that are in the cache then.
        origin: whose cache it is; None for an empty one.
        take: the origin's own sequence, cut to what both share; else a copy in a free one.
    """

    seconds: float
    positions: int = 0
    origin: Place | State | None = None
    take: bool = False


class Coming(NamedTuple):
    """The beginning of a log, so many positions, that another place computes now."""

    origin: Place
    positions: int


class Caches:
    """The engine's sequences and the saved states, and the index of both by their tokens.

    Attributes:
        residents: places that have a sequence, by its number.
        copies: sequences lent for branches, with the holder whose cache each is a copy of.
        index: all residents that are shared, and all states.
    """

    def __init__(self, engine: Engine, settings: KvSettings) -> None:
        self.engine = engine
        self.costs = Costs()
        self.statistics = ContextStatistics()
        self.residents: dict[int, Place] = {}
        self.copies: dict[int, Holder] = {}
        self.index: PrefixIndex[Place | State] = PrefixIndex(settings.min_prefix)
        self.store = StateStore(settings, self.costs, self.statistics, forgotten=self._forget_state)
        self._shortest = settings.min_prefix
        self._clock = 0.0

    @property
    def free(self) -> bool:
        """The engine has a sequence that nobody has."""
        return len(self.residents) + len(self.copies) < self.engine.max_sequences

    def cached(self, place: Place) -> int:
        """How many of a resident's tokens are in its cache."""
        return min(self.engine.length(place.sequence), len(place.tokens))

    def touch(self, place: Place) -> None:
        """Note that a resident is used, and find others by what its log has become."""
        place.rank = self._clock
        if place.shared:
            self.index.publish(place, place.tenant, place.tokens)

    def best(self, place: Place) -> Way:
        """The cheapest way to a cache of the place's log."""
        if not place.shared:
            return Way(0.0, place.computed, place.state)
        tokens = place.tokens
        most = len(tokens) - 1
        ways = [Way(self.costs.compute(most))]
        for origin in self.index.find(place.tenant, tokens):
            ways += self._ways(origin, tokens, most)
        return min(ways, key=lambda way: way.seconds)

    def _ways(self, origin: Place | State, tokens: list[int], most: int) -> Iterator[Way]:
        costs, held = self.costs, len(origin.tokens) if isinstance(origin, State) else self.cached(origin)
        same = min(common_length(tokens, origin.tokens), held, most)
        if same < self._shortest:
            return
        rest = costs.compute(most - same)
        if isinstance(origin, State):
            reading = costs.read(held) if origin.data is None else 0.0
            yield Way(rest + reading + costs.restore(held), same, origin)
            return
        if origin.holder is None:
            yield Way(rest + self.chance(origin) * costs.compute(held - same), same, origin, take=True)
        if origin.holder is not None or self.free:
            yield Way(rest + costs.fork(held), same, origin)

    def coming(self, place: Place, way: Way, computing: Collection[Place]) -> Coming | None:
        """What one of those who compute now will have of the place's log, where waiting for that and copying it costs
        less than going the way, whose rest takes more than one run in any case."""
        tokens, done = place.tokens, way.positions
        most = len(tokens) - 1
        if not place.shared or most - done <= self.engine.max_run:
            return None
        for origin in self.index.find(place.tenant, tokens):
            if isinstance(origin, State) or origin not in computing or self.cached(origin) < done:
                continue
            held = len(origin.tokens) - 1
            same = min(common_length(tokens, origin.tokens), held, most)
            if same - done >= self._shortest and self.costs.compute(same - done) > self.costs.fork(held):
                return Coming(origin, same)
        return None

    def fill(self, place: Place, way: Way) -> None:
        """Give a place a sequence; it is there, or free. What cannot be copied is computed.

        Raises EngineFailure for a cache that is lost and cannot be computed.
        """
        sequence = NONE
        if way.take and isinstance(way.origin, Place):
            sequence = way.origin.sequence
            self._part(way.origin)
        elif way.origin is not None:
            sequence = self._copied(way.origin)
        positions = 0 if sequence == NONE else way.positions
        if not place.shared and positions < place.computed:
            raise EngineFailure("The cache of a session of hidden states is lost.")
        if sequence == NONE:
            sequence = self.engine.open()
        self.cut(sequence, positions)
        self._settle(place, sequence)
        self._account(place, positions)

    def chance(self, place: Place) -> float:
        """That a cache is needed again: a session's surely; of what sessions left, as often as it was so far."""
        if place.holder is not None:
            return 1.0
        return min(1.0, (self.statistics.prefix_hits + 1) / (self.statistics.finished + 2))

    def victim(self, *, sessions: bool, spared: Collection[Place | State | None]) -> Place | None:
        """Who loses its sequence: an entry or, with `sessions`, an idle session.

        That is the one with the least rank + chance x seconds to bring its cache back. The clock goes on to that sum,
        and whoever is used has the clock as its rank: what is cheap goes first, and what is dear goes, too, when it
        has not been used while much else went (GreedyDual, Young 1994; Cao and Irani 1997).
        """
        able = [place for place in self.residents.values() if place not in spared]
        able = [place for place in able if place.holder is None or (sessions and not place.busy)]
        return min(able, key=self._worth, default=None)

    def _worth(self, place: Place) -> float:
        return place.rank + self.chance(place) * self.costs.bring_back(self.cached(place))

    def evict(self, place: Place) -> bool:
        """Take a place's sequence; its cache is saved where that pays. False if it must be saved and cannot be."""
        place.computed = self.cached(place)
        tokens = place.tokens[: place.computed]
        state = self._spill(place, tokens) if place.shared else self._save(place, tokens)
        if state is None and not place.shared:
            return False
        self._clock = max(self._clock, self._worth(place))
        if state is None:
            self.statistics.dropped += 1
        if place.holder is not None:
            place.want(state)
        self.release(place)
        return True

    def retire(self, place: Place) -> None:
        """A session is over: its cache stays in its sequence as an entry, unless another's begins with the same."""
        length = self.cached(place)
        tokens = place.tokens[:length]
        if not place.shared or length < self._shortest:
            self.release(place)
            return
        self.touch(place)
        for other in self.index.find(place.tenant, tokens):
            if other is place or isinstance(other, State):
                continue
            same = min(common_length(tokens, other.tokens), self.cached(other))
            if same == length:
                self.release(place)
                return
            if other.holder is None and same == len(other.kept):
                self.release(other)
        self.cut(place.sequence, length)
        self.statistics.finished += 1
        sequence = place.sequence
        place.move(NONE)
        place.holder, place.kept, place.sequence = None, tokens, sequence

    def release(self, place: Place) -> None:
        """Free a place's sequence; one that has none is left."""
        if place.sequence != NONE:
            self.engine.close(place.sequence)
            self._part(place)

    def _part(self, place: Place) -> None:
        del self.residents[place.sequence]
        self.index.forget(place)
        place.move(NONE)

    def _settle(self, place: Place, sequence: int) -> None:
        self.residents[sequence] = place
        place.move(sequence)
        self.part_with_state(place)
        self.touch(place)

    def part_with_state(self, place: Place) -> None:
        """The place comes back to no state; what only it could use goes."""
        state = place.state
        place.want(None)
        if state is not None and state.pinned:
            self.store.drop(state)

    def cut(self, sequence: int, length: int) -> None:
        """Forget a sequence's positions from `length` on."""
        if self.engine.length(sequence) > length:
            self.engine.truncate(sequence, length)

    def _account(self, place: Place, positions: int) -> None:
        gained = positions - place.computed
        if gained < 0:
            self.statistics.rebuilt_positions -= gained
        elif gained > 0:
            self.statistics.prefix_hits += 1
            self.statistics.reused_positions += gained

    def _copied(self, origin: Place | State) -> int:
        """A new sequence with the origin's cache; NONE if that fails."""
        data = self.store.get(origin) if isinstance(origin, State) else b""
        if data is None:
            return NONE
        started = time.perf_counter()
        try:
            if isinstance(origin, Place):
                sequence = self.engine.fork(origin.sequence)
                self.costs.fork_s.note((time.perf_counter() - started) / self.engine.length(sequence))
                return sequence
            sequence = self.engine.restore(data)
        except (UpdraftError, MemoryError) as error:
            self._failed(error)
            if isinstance(origin, State):
                self.store.drop(origin)
            return NONE
        self.costs.restore_s.note((time.perf_counter() - started) / len(data))
        self.statistics.restored += 1
        return sequence

    def _spill(self, place: Place, tokens: list[int]) -> State | None:
        """The state that a cache can be brought back from: one that was saved before, or a new one if that pays."""
        states = [state for state in self.index.find(place.tenant, tokens) if isinstance(state, State)]
        before = max(states, key=lambda state: common_length(state.tokens, tokens), default=None)
        same = 0 if before is None else common_length(before.tokens, tokens)
        saved = self.costs.compute(len(tokens) - same) - (self.costs.restore(len(tokens)) if before is None else 0.0)
        # The first cache is saved in any case: nobody knows before what that costs.
        pays = not self.costs.save_s.known or self.chance(place) * saved > self.costs.save(len(tokens))
        if pays and len(tokens) >= self._shortest and self.store.any and (state := self._save(place, tokens)):
            for older in states:
                if common_length(older.tokens, tokens) == len(older.tokens):
                    self._replace(older, state)
            return state
        if before is None or before not in self.store.states:
            return None
        self.statistics.kept += 1
        return before

    def _save(self, place: Place, tokens: list[int]) -> State | None:
        self.cut(place.sequence, len(tokens))
        started = time.perf_counter()
        try:
            data = self.engine.save(place.sequence)
        except (UpdraftError, MemoryError) as error:
            self._failed(error)
            return None
        self.costs.save_s.note((time.perf_counter() - started) / len(data))
        self.costs.bytes.note(len(data) / max(1, len(tokens)))
        state = self.store.put(place.tenant, tokens, data, pinned=not place.shared)
        if state is not None and place.shared:
            self.index.publish(state, place.tenant, tokens)
        return state

    def _replace(self, older: State, state: State) -> None:
        """The newer state begins with the older one: one copy is enough."""
        for place in list(older.wanted):
            place.want(state)
        self.store.drop(older)

    def _forget_state(self, state: State) -> None:
        self.index.forget(state)
        for place in list(state.wanted):
            place.want(None)

    def _failed(self, error: Exception) -> None:
        log.warning("a cache could not be copied and will be computed again: %s", error)
        self.statistics.failures += 1
