"""The queue for places: bounded, fair between tenants, and it sheds what it could not serve in time."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fakes.clock import Clock
from updraft.errors import Overloaded
from updraft_cloud.admission.place_queue import LONGEST_RETRY_S, PlaceQueue, Refusal, Ticket


class Desk:
    """A queue with its clock, and what it said to whom."""

    def __init__(self, places: int, length: int) -> None:
        self.clock = Clock()
        self.refused: Counter[Refusal] = Counter()
        self.waits: list[float] = []
        self.said: dict[Ticket, list[Overloaded | None]] = {}
        self.queue = PlaceQueue(
            places, length, clock=self.clock, on_refusal=self.refuse, on_seat=lambda waited: self.waits.append(waited)
        )

    def refuse(self, reason: Refusal) -> None:
        self.refused[reason] += 1

    def offer(self, tenant: str, patience: float = math.inf) -> Ticket:
        answers: list[Overloaded | None] = []
        ticket = self.queue.offer(tenant, self.clock() + patience, answers.append)
        self.said[ticket] = answers
        return ticket

    def waits_for_a_place(self, ticket: Ticket) -> bool:
        return not ticket.seated and not self.said[ticket]


def test_places_are_given_first_come_first_served() -> None:
    desk = Desk(1, 8)
    first, second, third = (desk.offer("a") for _ in range(3))
    assert [ticket.seated for ticket in (first, second, third)] == [True, False, False]
    desk.queue.leave(first)
    assert [ticket.seated for ticket in (first, second, third)] == [False, True, False]
    assert desk.said[second] == [None]
    desk.queue.leave(third)
    desk.queue.leave(second)
    assert (desk.queue.taken, desk.queue.waiting) == (0, 0)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again() -> None:
    desk = Desk(1, 1)
    desk.offer("a")
    desk.offer("a")
    with pytest.raises(Overloaded) as refused:
        desk.offer("a")
    assert 0 < refused.value.retry_after_s <= LONGEST_RETRY_S
    assert desk.refused == {Refusal.QUEUE_FULL: 1}
    assert desk.queue.waiting == 1


def test_a_queue_of_no_length_lets_nobody_wait() -> None:
    desk = Desk(1, 0)
    desk.offer("a")
    with pytest.raises(Overloaded):
        desk.offer("b")


def test_whoever_would_wait_too_long_is_refused_at_once() -> None:
    desk = Desk(1, 8)
    for _ in range(20):  # places take ten seconds
        ticket = desk.offer("a")
        desk.clock.move(10)
        desk.queue.leave(ticket)
    desk.offer("a")
    expected = desk.queue.expected_wait("a")
    assert 5 < expected <= 10
    patient = desk.offer("a", patience=60)
    with pytest.raises(Overloaded) as refused:
        desk.offer("a", patience=expected)
    assert refused.value.retry_after_s > expected
    assert desk.refused == {Refusal.EXPECTED_WAIT: 1}
    assert desk.waits_for_a_place(patient)


def test_a_young_service_is_hopeful_and_a_stuck_one_is_not() -> None:
    desk = Desk(2, 8)
    desk.offer("a")
    desk.offer("a")
    assert desk.queue.expected_wait("a") == 0
    desk.clock.move(3600)
    assert desk.queue.expected_wait("a") > 30


def test_whoever_has_waited_too_long_is_shed_before_a_place_is_spent_on_them() -> None:
    desk = Desk(1, 8)
    first = desk.offer("a")
    late, patient = desk.offer("a", patience=1), desk.offer("a", patience=10)
    desk.clock.move(2)
    desk.queue.leave(first)
    assert not late.seated
    assert patient.seated
    (answer,) = desk.said[late]
    assert isinstance(answer, Overloaded)
    assert desk.refused == {Refusal.WAITED: 1}
    desk.queue.shed(late)
    desk.queue.shed(patient)  # too late: it has its place
    assert desk.said[patient] == [None]
    assert desk.waits == [0, 2]


def test_a_free_place_goes_to_the_tenant_that_holds_fewest() -> None:
    desk = Desk(2, 8)
    first = desk.offer("greedy")
    desk.offer("greedy")
    waiting = [desk.offer("greedy") for _ in range(5)]
    modest = desk.offer("modest")
    desk.queue.leave(first)
    assert modest.seated
    assert not any(ticket.seated for ticket in waiting)


def test_a_full_queue_makes_room_for_a_tenant_with_fewer_sessions() -> None:
    desk = Desk(1, 3)
    desk.offer("greedy")
    waiting = [desk.offer("greedy") for _ in range(3)]
    modest = desk.offer("modest")
    assert desk.waits_for_a_place(modest)
    assert [desk.waits_for_a_place(ticket) for ticket in waiting] == [True, True, False]
    assert desk.refused == {Refusal.DISPLACED: 1}
    with pytest.raises(Overloaded):
        desk.offer("greedy")


class Rush:
    """Sessions of two tenants in the queue's own time; `modest` wants a tenth of the places, `greedy` all and more.

    Args:
        load: sessions that come, over those that could be served.
        hold_s: how long a place is held on average.
    """

    PATIENCE_S = 10.0

    def __init__(self, load: float, hold_s: float, *, places: int = 16, length: int = 64, seed: int = 0) -> None:
        self.desk = Desk(places, length)
        self.came: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.busy_s = 0.0
        self._hold_s = hold_s
        self._rates = {"modest": 0.1 * places / hold_s, "greedy": (load - 0.1) * places / hold_s}
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, str, Any]] = []
        self._numbers = count()

    def run(self, seconds: float) -> None:
        for tenant in self._rates:
            self._plan(0.0, "come", tenant)
        while (event := heapq.heappop(self._events))[0] < seconds:
            now, _, kind, what = event
            self.busy_s += self.desk.queue.taken * (now - self.desk.clock.now)
            self.desk.clock.now = now
            getattr(self, kind)(what)

    def come(self, tenant: str) -> None:
        self._plan(self._random.expovariate(self._rates[tenant]), "come", tenant)
        self.came[tenant] += 1

        def settled(error: Overloaded | None) -> None:
            if error is None:
                self.serve(ticket)

        try:
            ticket = self.desk.queue.offer(tenant, self.desk.clock() + self.PATIENCE_S, settled)
        except Overloaded:
            return
        if ticket.seated:
            self.serve(ticket)
        else:
            self._plan(self.PATIENCE_S, "late", ticket)

    def serve(self, ticket: Ticket) -> None:
        self.served[ticket.tenant] += 1
        self._plan(self._random.expovariate(1 / self._hold_s), "go", ticket)

    def go(self, ticket: Ticket) -> None:
        self.desk.queue.leave(ticket)

    def late(self, ticket: Ticket) -> None:
        self.desk.queue.shed(ticket)

    def _plan(self, seconds: float, kind: str, what: Any) -> None:
        heapq.heappush(self._events, (self.desk.clock() + seconds, next(self._numbers), kind, what))


@pytest.mark.parametrize("hold_s", [1.0, 10.0])
@pytest.mark.parametrize("load", [1.5, 3.0, 6.0])
def test_under_overload_goodput_is_flat_waits_are_bounded_and_the_modest_are_served(load: float, hold_s: float) -> None:
    rush = Rush(load, hold_s)
    rush.run(400.0)
    assert rush.busy_s > 0.97 * 16 * 400
    assert max(rush.desk.waits) <= Rush.PATIENCE_S
    assert rush.served["modest"] >= 0.95 * rush.came["modest"]
    refused = rush.desk.refused
    assert refused[Refusal.WAITED] < 0.3 * rush.served.total(), "most are refused at once and not after a wait"


def test_below_its_capacity_a_cloud_refuses_nobody() -> None:
    rush = Rush(0.6, 1.0)
    rush.run(400.0)
    assert rush.desk.refused == {}
    assert rush.served == rush.came


class QueueMachine(RuleBasedStateMachine):
    """Sessions come, leave and give up in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(3, 4)
        self.tickets: list[Ticket] = []

    @rule(tenant=st.sampled_from("abcd"), patience=st.sampled_from([1.0, 30.0, math.inf]))
    def come(self, tenant: str, patience: float) -> None:
        refused = self.desk.refused.total()
        try:
            self.tickets.append(self.desk.offer(tenant, patience))
        except Overloaded as error:
            assert 0 < error.retry_after_s <= LONGEST_RETRY_S
            assert self.desk.queue.taken == 3
            assert self.desk.refused.total() > refused

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.tickets))
        fresh = {waiting for waiting in self.tickets if self.desk.waits_for_a_place(waiting) and waiting is not ticket}
        patient = {waiting for waiting in fresh if waiting.deadline > self.desk.clock()}
        held = Counter(other.tenant for other in self.tickets if other.seated and other is not ticket)
        was_seated = ticket.seated
        self.desk.queue.leave(ticket)
        self.tickets.remove(ticket)
        seated = [waiting for waiting in fresh if waiting.seated]
        assert len(seated) == (1 if was_seated and patient else 0)
        for winner in seated:  # the first of the tenants that hold fewest: nobody is passed over for ever
            fewest = min(held[waiting.tenant] for waiting in patient)
            assert held[winner.tenant] == fewest
            assert winner.since == min(waiting.since for waiting in patient if held[waiting.tenant] == fewest)

    @rule(seconds=st.floats(0, 5))
    def pass_time(self, seconds: float) -> None:
        self.desk.clock.move(seconds)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        self.desk.queue.shed(data.draw(st.sampled_from(self.tickets)))

    @invariant()
    def the_bounds_hold(self) -> None:
        queue = self.desk.queue
        assert queue.taken == sum(ticket.seated for ticket in self.tickets) <= 3
        assert queue.waiting == sum(map(self.desk.waits_for_a_place, self.tickets)) <= 4
        assert not queue.waiting or queue.taken == 3, "a place stands empty while somebody waits"

    @invariant()
    def everybody_is_told_once(self) -> None:
        assert all(len(answers) <= 1 for answers in self.desk.said.values())

    def teardown(self) -> None:
        for ticket in self.tickets:
            self.desk.queue.leave(ticket)
        assert (self.desk.queue.taken, self.desk.queue.waiting) == (0, 0)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
