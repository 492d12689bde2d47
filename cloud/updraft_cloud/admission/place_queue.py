"""A bounded queue for places that sheds what it could not serve in time, and is fair between tenants."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from updraft.errors import Overloaded

__all__ = ["LONGEST_RETRY_S", "Pace", "PlaceQueue", "Refusal", "Ticket", "refusal"]

FADE_S = 60.0  # how long what places took counts in the expected wait
SHORTEST_RETRY_S, LONGEST_RETRY_S = 0.1, 60.0


class Refusal(StrEnum):
    """Why something was refused; the label of the metric of shed load."""

    STREAMS = "streams"
    SESSIONS = "sessions"
    TENANT_SESSIONS = "tenant_sessions"
    SESSION_RATE = "session_rate"
    RATE = "rate"  # of tokens
    QUEUE_FULL = "queue_full"
    EXPECTED_WAIT = "expected_wait"  # it would have waited for longer than it may
    WAITED = "waited"  # it has waited for as long as it may
    DISPLACED = "displaced"  # by one of a tenant with fewer sessions


def refusal(message: str, seconds: float) -> Overloaded:
    """Overloaded that asks to come back after so many seconds, within bounds."""
    error = Overloaded(message)
    error.retry_after_s = min(max(seconds, SHORTEST_RETRY_S), LONGEST_RETRY_S)
    return error


@dataclass(eq=False, slots=True)
class Ticket:
    """A place, or a place in the queue for one.

    Attributes:
        deadline: by when it must have its place, clock seconds.
        since: when it came.
        settled: called once where it had to wait: with None for a place, else with why it gets none.
    """

    tenant: str
    deadline: float
    since: float
    settled: Callable[[Overloaded | None], None]
    seated: bool = False


class Pace:
    """How long places are held: place-seconds used over places left, both fading.

    One more departure than was seen is assumed, so that a young service is hopeful.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._then = clock()
        self._used = 0.0
        self._left = 0.0

    def note(self, held: int, *, left: int = 0) -> None:
        """`held` places were held until now, and so many are left now."""
        now = self._clock()
        kept = math.exp((self._then - now) / FADE_S)
        self._used = self._used * kept + held * FADE_S * (1 - kept)
        self._left = self._left * kept + left
        self._then = now

    @property
    def held_s(self) -> float:
        """Seconds for which a place is held, about."""
        return self._used / (self._left + 1)


class PlaceQueue:
    """Places for so many, and a queue for so many more. Used from one thread.

    A free place goes to the tenant that holds fewest, there to who came first. So nobody is passed over for ever: a
    tenant without a place comes after older ones without a place only.

    Args:
        places: how many.
        length: of the queue, at most.
        on_refusal: told why, for each that is refused.
        on_seat: told how long each that got a place had waited, seconds.
    """

    def __init__(
        self,
        places: int,
        length: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_refusal: Callable[[Refusal], None] = lambda reason: None,
        on_seat: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.places = places
        self._length = length
        self._clock = clock
        self._on_refusal = on_refusal
        self._on_seat = on_seat
        self._pace = Pace(clock)
        self._waiting: list[Ticket] = []  # in the order in which they came
        self._held: Counter[str] = Counter()  # by tenant
        self._taken = 0

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def expected_wait(self, tenant: str) -> float:
        """Seconds that one more session of this tenant would wait for a place."""
        if self._taken < self.places:
            return 0.0
        self._pace.note(self._taken)
        ahead = sum(self._held[ticket.tenant] <= self._held[tenant] for ticket in self._waiting)
        return (ahead + 1) * self._pace.held_s / self.places

    def offer(self, tenant: str, deadline: float, settled: Callable[[Overloaded | None], None]) -> Ticket:
        """A place if one is free, else a place in the queue.

        Raises:
            Overloaded: the queue is full, or it would wait beyond its deadline (clock seconds).
        """
        ticket = Ticket(tenant, deadline, self._clock(), settled)
        if self._taken < self.places:
            self._seat(ticket)
            return ticket
        self._shed_late()
        wait = self.expected_wait(tenant)
        if self._clock() + wait > deadline:
            raise self._refuse(Refusal.EXPECTED_WAIT, f"A session would wait {wait:.1f} s for a place.", wait)
        if len(self._waiting) >= self._length:
            self._displace(tenant, wait)
        self._waiting.append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give a place back, or leave the queue. Safe to call twice."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
        elif ticket.seated:
            ticket.seated = False
            self._pace.note(self._taken, left=1)
            self._taken -= 1
            self._held[ticket.tenant] -= 1
            self._held += Counter()  # forgets tenants that hold none
            self._shed_late()
            self._seat_next()

    def shed(self, ticket: Ticket, reason: Refusal = Refusal.WAITED) -> None:
        """It gets no place: it waited for as long as it may, or makes room. Ignored where it waits no more."""
        if ticket not in self._waiting:
            return
        self._waiting.remove(ticket)
        waited = self._clock() - ticket.since
        wait = self.expected_wait(ticket.tenant)
        ticket.settled(self._refuse(reason, f"No place became free in {waited:.1f} s of waiting.", wait))

    def _seat(self, ticket: Ticket) -> None:
        self._pace.note(self._taken)
        ticket.seated = True
        self._taken += 1
        self._held[ticket.tenant] += 1
        self._on_seat(self._clock() - ticket.since)

    def _seat_next(self) -> None:
        if self._waiting and self._taken < self.places:
            ticket = min(self._waiting, key=lambda waiting: self._held[waiting.tenant])  # the first of them
            self._waiting.remove(ticket)
            self._seat(ticket)
            ticket.settled(None)

    def _shed_late(self) -> None:
        """Oldest first; nothing is spent on those that have given up."""
        now = self._clock()
        for ticket in [ticket for ticket in self._waiting if ticket.deadline <= now]:
            self.shed(ticket)

    def _displace(self, tenant: str, wait: float) -> None:
        """Make room by sending the last of the tenant with most sessions away, if it has at least two more."""
        claims = self._held + Counter(ticket.tenant for ticket in self._waiting)
        last = max(reversed(self._waiting), key=lambda waiting: claims[waiting.tenant], default=None)
        if last is None or claims[last.tenant] <= claims[tenant] + 1:
            raise self._refuse(Refusal.QUEUE_FULL, f"{len(self._waiting)} sessions wait for a place already.", wait)
        self.shed(last, Refusal.DISPLACED)

    def _refuse(self, reason: Refusal, message: str, seconds: float) -> Overloaded:
        self._on_refusal(reason)
        return refusal(message, seconds)
