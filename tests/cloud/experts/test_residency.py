"""The book of slots, driven at random: nothing is lost, nothing is twice, and nothing that is needed goes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from updraft.engine.experts import MoeShape
from updraft.errors import EngineFailure
from updraft_cloud.experts.policies import Forecast, NoForecast, Policy
from updraft_cloud.experts.policies.base import Ints, Look
from updraft_cloud.experts.policies.registry import POLICIES, make_policy
from updraft_cloud.experts.policies.replacement import Recency
from updraft_cloud.experts.residency import Copy, Residency

SHAPE = MoeShape(3, 6, 2, 4, 4, 100)
PLAIN = [name for name, kind in POLICIES.items() if kind.forecast != "trained"]


class Told(NoForecast):
    """Foretells what a test says."""

    def __init__(self) -> None:
        self.at_begin: Forecast | None = None
        self.at_layer: Forecast | None = None

    def begin(self, tokens: Ints) -> Forecast | None:
        return self.at_begin

    def routed(self, layer: int, chosen: Ints, look: Look) -> Forecast | None:
        return self.at_layer


def told(*keys: int, chance: float = 0.9) -> Forecast:
    return Forecast(np.array(keys, np.int64), np.full(len(keys), chance, np.float32))


def book_of(slots: int, forecaster: NoForecast) -> Residency:
    return Residency(SHAPE, slots, Policy("test", Recency(SHAPE), forecaster))


def need(book: Residency, layer: int, *experts: int) -> tuple[list[int], list[int], list[int]]:
    keys = np.array(experts, np.int64) + layer * SHAPE.experts
    found = book.need(layer, keys, np.array([experts]), lambda: None)
    return found.ready, found.coming, found.absent


def bring(book: Residency) -> Copy:
    copy = book.next_copy()
    assert copy is not None
    book.arrived(copy)
    return copy


def test_what_is_waited_for_comes_before_what_is_foretold() -> None:
    forecaster = Told()
    forecaster.at_begin = told(6, 12)
    book = book_of(4, forecaster)
    book.begin(np.array([1]))
    assert need(book, 0, 1, 2) == ([], [], [1, 2])
    book.demand([1, 2])
    assert [bring(book).key for _ in range(4)] == [1, 2, 6, 12]
    assert book.next_copy() is None
    assert (book.statistics.prefetched, book.statistics.useful) == (2, 0)
    assert need(book, 1, 0, 3) == ([6], [], [9])
    assert book.statistics.useful == 1
    book.end()
    book.check_integrity()


def test_what_came_in_vain_goes_first() -> None:
    forecaster = Told()
    forecaster.at_begin = told(6)
    book = book_of(2, forecaster)
    book.begin(np.array([1]))
    assert bring(book).key == 6
    need(book, 0, 1)
    book.demand([1])
    bring(book)
    book.computed(1)
    need(book, 1, 1)  # not expert 0 of layer 1, which was foretold: recency alone would give up key 1
    book.demand([7])
    copy = bring(book)
    assert copy.key == 7 and book.slot(6) == -1 and book.slot(1) >= 0
    assert book.statistics.useless == 1


def test_a_prefetch_never_takes_the_place_of_what_is_foretold_or_pinned() -> None:
    forecaster = Told()
    forecaster.at_begin = told(6, 12)
    book = book_of(2, forecaster)
    book.begin(np.array([1]))
    need(book, 0, 0)
    book.demand([0])
    assert bring(book).key == 0
    assert bring(book).key == 6
    assert book.next_copy() is None  # slot of key 0 is pinned, that of key 6 is foretold
    assert book.slot(12) == -1


def test_a_faint_forecast_is_not_followed() -> None:
    forecaster = Told()
    forecaster.at_begin = told(6, chance=0.4)
    book = book_of(2, forecaster)
    book.begin(np.array([1]))
    assert book.next_copy() is None


def test_a_copy_that_fails_frees_its_slot() -> None:
    book = book_of(2, Told())
    book.begin(np.array([1]))
    need(book, 0, 0, 1)
    book.demand([0, 1])
    first, second = book.next_copy(), book.next_copy()
    assert first is not None and second is not None
    book.failed(first)
    book.check_integrity([second])
    book.arrived(second)
    book.end()
    book.check_integrity()
    assert book.statistics.failures == 1


def test_damage_is_found() -> None:
    book = book_of(2, Told())
    book.begin(np.array([1]))
    need(book, 0, 0)
    book.demand([0])
    copy = book.next_copy()
    with pytest.raises(EngineFailure, match="on its way"):
        book.check_integrity()
    assert copy is not None
    book.arrived(copy)
    book._evictable[0] = True
    with pytest.raises(EngineFailure, match="may go"):
        book.check_integrity()
    book._evictable[0] = False
    book._free.append(copy.slot)
    with pytest.raises(EngineFailure, match="held twice"):
        book.check_integrity()
    with pytest.raises(EngineFailure, match="at least one"):
        Residency(SHAPE, 0, Policy("test", Recency(SHAPE), NoForecast()))


class BookMachine(RuleBasedStateMachine):
    """Passes with any choices, under any policy, while copies arrive, fail, or are slow."""

    @initialize(name=st.sampled_from(PLAIN), slots=st.integers(2, 20))
    def open(self, name: str, slots: int) -> None:
        self.book = Residency(SHAPE, slots, make_policy(name, SHAPE, slots))
        self.flights: list[Copy] = []
        self.layer = -1
        self.pinned: set[int] = set()

    @precondition(lambda self: self.layer == -1)
    @rule(tokens=st.lists(st.integers(0, 5), min_size=1, max_size=3))
    def begin(self, tokens: list[int]) -> None:
        self.rows = len(tokens)
        self.book.begin(np.array(tokens))
        self.book.expect(np.array(tokens[::-1]))
        self.layer = 0

    @precondition(lambda self: 0 <= self.layer < SHAPE.layers)
    @rule(data=st.data())
    def layer_needs(self, data: st.DataObject) -> None:
        chosen = np.array([data.draw(st.permutations(range(6)))[:2] for _ in range(self.rows)])
        keys = np.unique(chosen).astype(np.int64) + self.layer * SHAPE.experts
        found = self.book.need(self.layer, keys, chosen, lambda: chosen)
        assert sorted(found.ready + found.coming + found.absent) == keys.tolist()
        self.pinned = {*found.ready, *found.coming}
        self.book.demand(found.absent)
        self.layer += 1

    @rule(most=st.integers(1, 4))
    def copies_start(self, most: int) -> None:
        for _ in range(most):
            copy = self.book.next_copy()
            if copy is None:
                return
            self.flights.append(copy)
            if copy.demand:
                self.pinned.add(copy.key)

    @precondition(lambda self: self.flights)
    @rule(fails=st.booleans())
    def copy_ends(self, fails: bool) -> None:
        copy = self.flights.pop(0)
        if fails:
            self.pinned.discard(copy.key)
        (self.book.failed if fails else self.book.arrived)(copy)

    @precondition(lambda self: self.pinned)
    @rule()
    def one_is_computed(self) -> None:
        for key in sorted(self.pinned):
            if self.book.ready(key):
                self.book.computed(key)
                self.pinned.discard(key)
                return

    @precondition(lambda self: self.layer > 0)
    @rule()
    def end(self) -> None:
        self.book.end()
        self.layer = -1
        self.pinned = set()

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "book"):
            return
        self.book.check_integrity(self.flights)
        assert all(self.book.slot(key) >= 0 for key in self.pinned)


TestBook = BookMachine.TestCase
TestBook.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
