"""The scheduler's promises: the budget, everybody's turn, fairness between tenants, deadlines."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.engine.base import Run
from updraft.engine.scheduler import PATIENCE, Grouping, Pass, Priority, Scheduler, Want

BUDGET = 64


@dataclass
class Client:
    """Wants a run of `size` positions in every pass, and notes what it gets."""

    sequence: int
    priority: Priority
    size: int
    tenant: str = ""
    served: list[int] = field(default_factory=list)
    positions: int = 0

    def want(self) -> Want:
        rows = 0 if self.priority is Priority.PREFILL else self.size
        return Want(self.priority, Run(self.sequence, self.positions, range(self.size), rows), self.tenant)


def clients(*kinds: tuple[Priority, int, str], count: int = 1) -> list[Client]:
    every = [kind for kind in kinds for _ in range(count)]
    return [Client(number, *kind) for number, kind in enumerate(every)]


def serve(scheduler: Scheduler[int], everybody: list[Client], number: int) -> Pass[int]:
    chosen = scheduler.choose([(client.sequence, client.want()) for client in everybody], 0.0)
    known = {client.sequence: client for client in everybody}
    for sequence, want in chosen.places:
        known[sequence].served.append(number)
        known[sequence].positions += len(want.run.tokens)
    return chosen


def sizes(chosen: Pass[int]) -> dict[int, int]:
    return {task: len(want.run.tokens) for task, want in chosen.places}


def by_parity(placed: Sequence[Run], waiting: Sequence[Run], room: int) -> list[int]:
    """Runs of even sequences need one thing, those of odd ones another."""
    own = placed[-1].sequence % 2
    return [number for number, run in enumerate(waiting) if run.sequence % 2 == own]


def hostile(placed: Sequence[Run], waiting: Sequence[Run], room: int) -> list[int]:
    """Whoever came last goes first, for ever."""
    return sorted(range(len(waiting)), key=lambda number: -waiting[number].sequence)


def fickle(seed: int) -> Grouping:
    """Another order every time, of some of them."""
    drawn = random.Random(seed)

    def order(placed: Sequence[Run], waiting: Sequence[Run], room: int) -> list[int]:
        return drawn.sample(range(len(waiting)), drawn.randint(0, len(waiting)))

    return order


groupings = st.one_of(st.sampled_from([None, by_parity, hostile]), st.integers(0, 99).map(fickle))
kinds = st.tuples(st.sampled_from(Priority), st.integers(1, BUDGET), st.sampled_from(["a", "b", "c"]))


@given(st.lists(st.lists(kinds, max_size=12), max_size=6), groupings)
def test_no_pass_is_fuller_than_the_budget_and_places_are_what_was_wanted(
    passes: list[list[tuple[Priority, int, str]]], grouping: Grouping | None
) -> None:
    scheduler = Scheduler[int](BUDGET, grouping)
    for number, wanted in enumerate(passes):
        everybody = clients(*wanted)
        wants = {client.sequence: client.want() for client in everybody}
        chosen = serve(scheduler, everybody, number)
        assert sum(sizes(chosen).values()) <= BUDGET
        assert len(sizes(chosen)) == len(chosen.places) == len(wanted) - chosen.waiting
        assert bool(chosen.places) == bool(wanted)
        for task, want in chosen.places:
            asked = wants[task]
            cut = want.run != asked.run
            assert want.run.tokens == asked.run.tokens[: len(want.run.tokens)]
            assert not cut or (asked.priority is Priority.PREFILL and asked.run.rows == want.run.rows == 0)


@given(st.lists(kinds, min_size=1, max_size=10), st.integers(1, 40), groupings)
@settings(max_examples=100)
def test_nobody_waits_longer_than_promised(
    wanted: list[tuple[Priority, int, str]], passes: int, grouping: Grouping | None
) -> None:
    """Also not a write under endless verification, nor a long run among short ones, nor whom a grouping is against."""
    scheduler, everybody = Scheduler[int](BUDGET, grouping), clients(*wanted)
    for number in range(passes):
        serve(scheduler, everybody, number)
    longest = PATIENCE + len(everybody)
    for client in everybody:
        turns = [-1, *client.served, passes]
        assert max(later - sooner for sooner, later in pairwise(turns)) <= longest


def test_a_sequence_has_one_run_in_a_pass() -> None:
    scheduler = Scheduler[str](BUDGET)
    wants = [(name, Want(Priority.VERIFY, Run(0, 0, [1, 2], 1))) for name in ("first", "second")]
    chosen = scheduler.choose(wants, 0.0)
    assert ([task for task, _ in chosen.places], chosen.waiting) == (["first"], 1)
    assert [task for task, _ in scheduler.choose(wants, 0.0).places] == ["second"]


def test_where_all_fits_all_is_computed_the_most_urgent_first() -> None:
    everybody = clients(
        (Priority.PREFILL, 20, ""), (Priority.WRITE, 1, ""), (Priority.VERIFY, 5, ""), (Priority.SCORE, 9, "")
    )
    chosen = serve(Scheduler[int](BUDGET), everybody, 0)
    assert [task for task, _ in chosen.places] == [2, 1, 3, 0]
    assert (chosen.waiting, sum(sizes(chosen).values())) == (0, 35)


def test_verification_comes_before_writes_and_scores_and_a_quarter_stays_for_prefill() -> None:
    everybody = clients(
        (Priority.PREFILL, 60, ""), (Priority.SCORE, 16, ""), (Priority.WRITE, 16, ""), (Priority.VERIFY, 16, "")
    )
    everybody.append(Client(4, Priority.VERIFY, 16))
    assert sizes(serve(Scheduler[int](BUDGET), everybody, 0)) == {3: 16, 4: 16, 2: 16, 0: 16}


def test_prefill_goes_on_in_every_pass_and_takes_what_room_is_left() -> None:
    scheduler = Scheduler[int](BUDGET)
    busy = clients((Priority.VERIFY, 8, ""), count=10)
    prompt = Client(99, Priority.PREFILL, 500)
    for number in range(PATIENCE):
        assert sizes(serve(scheduler, [*busy, prompt], number))[99] == BUDGET // 4
    assert sizes(serve(Scheduler[int](BUDGET), [*busy[:3], prompt], 0)) == {0: 8, 1: 8, 2: 8, 99: 40}


def test_a_prompt_is_not_cut_into_crumbs() -> None:
    everybody = clients((Priority.PREFILL, 50, ""), (Priority.PREFILL, 50, ""))
    assert sizes(serve(Scheduler[int](BUDGET), everybody, 0)) == {0: 50}


def test_hidden_states_are_cut_with_their_tokens() -> None:
    states = np.zeros((100, 3), np.float32)
    wants = [(0, Want(Priority.PREFILL, Run(0, 0, range(100), inputs=states, entry=1)))]
    ((_, want),) = Scheduler[int](BUDGET).choose(wants, 0.0).places
    assert want.run.inputs is not None
    assert (len(want.run.tokens), want.run.inputs.shape, want.run.entry) == (BUDGET, (BUDGET, 3), 1)


def test_who_is_late_is_told_and_takes_no_place() -> None:
    run = Run(0, 0, [1], 1)
    wants = [("late", Want(Priority.VERIFY, run, deadline=9.9)), ("in time", Want(Priority.WRITE, run, deadline=10.0))]
    chosen = Scheduler[str](BUDGET).choose(wants, 10.0)
    assert (chosen.late, [task for task, _ in chosen.places], chosen.waiting) == (["late"], ["in time"], 0)


@given(
    st.sampled_from([Priority.VERIFY, Priority.WRITE, Priority.PREFILL]),
    st.lists(st.integers(1, 16), min_size=2, max_size=4),
    st.integers(0, 12),
    groupings,
)
@settings(max_examples=40, deadline=None)
def test_tenants_that_want_more_than_there_is_get_equal_shares(
    priority: Priority, runs: list[int], more: int, grouping: Grouping | None
) -> None:
    """However long their runs are and however many sessions they have: the first tenant has more of them."""
    everybody: list[Client] = []
    for tenant, size in enumerate(runs):
        count = -(-BUDGET // size) + (more if tenant == 0 else 0)
        everybody += [Client(len(everybody) + number, priority, size, str(tenant)) for number in range(count)]
    scheduler, passes = Scheduler[int](BUDGET, grouping), 40
    for number in range(passes):
        serve(scheduler, everybody, number)
    had = Counter[str]()
    for client in everybody:
        had[client.tenant] += client.positions
    assert max(had.values()) - min(had.values()) <= 0.05 * sum(had.values()) + BUDGET


def test_idling_earns_no_more_credit_than_two_passes() -> None:
    scheduler = Scheduler[int](BUDGET)
    here = clients((Priority.WRITE, 8, "here"), count=8)
    away = [Client(100 + number, Priority.WRITE, 8, "away") for number in range(8)]
    serve(scheduler, [*here, *away], 0)
    for number in range(1, 1000):
        serve(scheduler, [*here[:1], Client(50, Priority.WRITE, BUDGET, "here")], number)
    for client in (*here, *away):
        client.positions = 0
    for number in range(1000, 1020):
        serve(scheduler, [*here, *away], number)
    ahead = sum(client.positions for client in away) - sum(client.positions for client in here)
    assert 0 <= ahead <= 3 * BUDGET


def test_runs_that_need_the_same_share_a_pass() -> None:
    scheduler = Scheduler[int](BUDGET, by_parity)
    everybody = clients((Priority.VERIFY, 16, ""), count=8)
    assert [set(sizes(serve(scheduler, everybody, number))) for number in range(2)] == [{0, 2, 4, 6}, {1, 3, 5, 7}]


def test_a_grouping_is_asked_only_where_not_all_fits() -> None:
    def never(placed: Sequence[Run], waiting: Sequence[Run], room: int) -> list[int]:
        raise AssertionError("it was asked")

    everybody = clients((Priority.VERIFY, 16, ""), count=4)
    assert set(sizes(serve(Scheduler[int](BUDGET, never), everybody, 0))) == {0, 1, 2, 3}


def test_a_grouping_that_names_nobody_changes_nothing() -> None:
    everybody = clients((Priority.VERIFY, 16, "a"), (Priority.WRITE, 9, "b"), (Priority.PREFILL, 20, "a"), count=4)
    plain, grouped = Scheduler[int](BUDGET), Scheduler[int](BUDGET, lambda placed, waiting, room: [])
    for number in range(12):
        wants = [(client.sequence, client.want()) for client in everybody]
        assert grouped.choose(wants, 0.0) == serve(plain, everybody, number)


def test_the_longest_waiting_goes_whatever_the_grouping_says() -> None:
    scheduler, everybody = Scheduler[int](BUDGET, hostile), clients((Priority.VERIFY, 16, ""), count=8)
    for number in range(8):
        serve(scheduler, everybody, number)
    assert everybody[0].served[0] == 0  # it came first
    assert [client.served[0] for client in everybody[1:5]] == [1, 2, 3, 4]  # one after the other, by their waiting


def test_who_would_be_late_is_not_passed_over() -> None:
    """Passes take a second; the one deadline is nearer than a grouping may keep anybody waiting for."""
    everybody = clients((Priority.VERIFY, 16, ""), count=9)

    def third(deadline: float) -> set[int]:
        scheduler = Scheduler[int](BUDGET, hostile)
        for now in (10.0, 11.0, 12.0):
            wants = [(c.sequence, c.want()._replace(deadline=deadline if c.sequence == 4 else 1e9)) for c in everybody]
            found = set(sizes(scheduler.choose(wants, now)))
        return found

    assert third(12.0 + PATIENCE + 0.5) == {2, 6, 7, 8}
    assert third(12.0 + PATIENCE - 0.5) == {2, 4, 7, 8}
