"""What the cloud lets in: sessions, places, and tokens a second, for all together and for each tenant."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable

from updraft.config.admission import AdmissionSettings
from updraft.errors import Overloaded
from updraft_cloud.admission.buckets import Buckets
from updraft_cloud.admission.place_queue import PlaceQueue, Refusal, Ticket, refusal
from updraft_cloud.frames import Draft, Score, TakeOver, Work

__all__ = ["Admission", "Visit", "positions_of"]

BURST_S = 10.0  # a burst of tokens, where the settings name none, is what comes in so long


def positions_of(work: Work) -> int:
    """Positions that a frame asks to be computed at once; a span's are counted as they are written."""
    match work:
        case Draft():
            return 1 + len(work.committed) + len(work.run) + sum(len(branch.tokens) for branch in work.branches)
        case Score():
            return 1 + len(work.committed) + len(work.tokens)
        case TakeOver():
            return 1 + len(work.committed)
        case _:
            return 0


class Admission:
    """The doors of the service. Used from its event loop alone.

    Tokens are counted when a frame asks for them to be computed (prompt, drafts, what is scored) and when the cloud
    writes them: a span may run into debt, which the tenant's next frames wait off.

    Args:
        places: sessions that the engine serves at once, unless the settings say.
        max_sessions: sessions open at once, with those that wait.
        clock: monotonic seconds.
        on_refusal: told why, for each that is turned away.
        on_seat: told how long each session had waited for its place, seconds.

    Attributes:
        queue: of places, and of those that wait for one.
        refused: how many were turned away for each reason.
        slowed: frames and openings that were held back for their tenant's rate.
    """

    def __init__(
        self,
        settings: AdmissionSettings,
        *,
        places: int,
        max_sessions: int,
        clock: Callable[[], float] = time.monotonic,
        on_refusal: Callable[[Refusal], None] = lambda reason: None,
        on_seat: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.refused: Counter[Refusal] = Counter()
        self.slowed = 0
        self._on_refusal = on_refusal
        self.queue = PlaceQueue(
            settings.places or places, settings.queue_length, clock=clock, on_refusal=self._count, on_seat=on_seat
        )
        self._max_sessions = max_sessions
        self._sessions: Counter[str] = Counter()  # by tenant
        opened = settings.sessions_per_minute
        self._openings = Buckets(opened and opened / 60, max(1.0, opened or 0.0), clock=clock)
        rate = settings.tokens_per_second
        self._tokens = Buckets(rate, settings.token_burst or max(1.0, BURST_S * (rate or 0.0)), clock=clock)

    @property
    def sessions(self) -> int:
        """Sessions that are open, with those that wait."""
        return self._sessions.total()

    def check_streams(self, streams: int) -> None:
        """Raises Overloaded where so many streams are open that no more can be answered."""
        if streams >= self.settings.max_streams:
            raise self._refuse(Refusal.STREAMS, f"{streams} streams are open.", self.queue.expected_wait(""))

    def enter(self, tenant: str, tokens: int, remaining_s: float | None = None) -> Visit:
        """Let a session in that begins with so many tokens; wait for `Visit.seated` then.

        Args:
            remaining_s: the client's own deadline, seconds from now.

        Raises:
            Overloaded: there are too many sessions, of all or of this tenant, it opens them too fast, has spent its
                tokens, or would wait for too long; `retry_after_s` says when to come again.
        """
        self._check_sessions(tenant)
        slow_s = self._slow(tenant, tokens)
        visit = Visit(self, tenant, slow_s, math.inf if remaining_s is None else self.clock() + remaining_s)
        self._openings.take(tenant, 1)
        self._tokens.take(tenant, tokens)
        self._sessions[tenant] += 1
        return visit

    def leave(self, visit: Visit) -> None:
        """A session is over; called by `Visit.leave`."""
        self._sessions[visit.tenant] -= 1
        self._sessions += Counter()  # forgets tenants without a session

    def charge(self, tenant: str, tokens: int) -> float:
        """A frame wants so many tokens computed: seconds to hold it back.

        Raises:
            Overloaded: it would have to be held back for too long.
        """
        self._slow(tenant, tokens)
        return self._tokens.take(tenant, tokens)

    def spend(self, tenant: str, tokens: int) -> None:
        """The cloud wrote so many tokens."""
        self._tokens.take(tenant, tokens)

    def _check_sessions(self, tenant: str) -> None:
        most = self.settings.tenant_sessions
        if self.sessions >= self._max_sessions:
            message = f"{self.sessions} sessions are open, which is the most this cloud takes."
            raise self._refuse(Refusal.SESSIONS, message, self.queue.expected_wait(tenant))
        if most is not None and self._sessions[tenant] >= most:
            message = f"{most} sessions of yours are open, which is the most you may have."
            raise self._refuse(Refusal.TENANT_SESSIONS, message, self.queue.expected_wait(tenant))
        if (seconds := self._openings.wait(tenant, 1)) > 0:
            message = f"You opened more than {self.settings.sessions_per_minute:g} sessions in a minute."
            raise self._refuse(Refusal.SESSION_RATE, message, seconds)

    def _slow(self, tenant: str, tokens: int) -> float:
        """Seconds to hold so many tokens back. Raises Overloaded where these are too many."""
        seconds = self._tokens.wait(tenant, tokens)
        if seconds > self.settings.slow_wait_s:
            message = f"You asked for more than {self.settings.tokens_per_second:g} tokens a second."
            raise self._refuse(Refusal.RATE, message, seconds)
        self.slowed += seconds > 0
        return seconds

    def _count(self, reason: Refusal) -> None:
        self.refused[reason] += 1
        self._on_refusal(reason)

    def _refuse(self, reason: Refusal, message: str, seconds: float) -> Overloaded:
        self._count(reason)
        return refusal(message, seconds)


class Visit:
    """A session that was let in. It asks for its place at once, or when it has been held back for its tenant's rate.

    Attributes:
        deadline: the client's own, clock seconds; infinite without one.

    Raises:
        Overloaded: the queue for places is full, or too slow.
    """

    def __init__(self, admission: Admission, tenant: str, slow_s: float, deadline: float) -> None:
        self.tenant = tenant
        self.deadline = deadline
        self._admission = admission
        self._slow_s = slow_s
        self._decision: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ticket = None if slow_s else self._ask()
        self._left = False

    @property
    def wait_s(self) -> float | None:
        """Seconds until it has its place, about; None where it has it."""
        if self._ticket is None:
            return self._slow_s
        return None if self._ticket.seated else self._admission.queue.expected_wait(self.tenant)

    async def seated(self) -> None:
        """Wait for the place. Raises Overloaded where none becomes free in time."""
        if self._ticket is None:
            await asyncio.sleep(self._slow_s)
            self._ticket = self._ask()
        if self._ticket.seated:
            return
        patience = self._ticket.deadline - self._admission.clock()
        timer = asyncio.get_running_loop().call_later(patience, self._admission.queue.shed, self._ticket)
        try:
            await self._decision
        finally:
            timer.cancel()

    def charge(self, tokens: int) -> float:
        """As `Admission.charge`."""
        return self._admission.charge(self.tenant, tokens)

    def spend(self, tokens: int) -> None:
        """As `Admission.spend`."""
        self._admission.spend(self.tenant, tokens)

    def leave(self) -> None:
        """It is over, and its place is free. Safe to call twice."""
        if self._left:
            return
        self._left = True
        if not self._decision.cancel() and not self._decision.cancelled():
            self._decision.exception()  # seen, if nobody waited for it
        if self._ticket is not None:
            self._admission.queue.leave(self._ticket)
        self._admission.leave(self)

    def _ask(self) -> Ticket:
        admission = self._admission
        deadline = min(self.deadline, admission.clock() + admission.settings.queue_wait_s)
        return admission.queue.offer(self.tenant, deadline, self._settled)

    def _settled(self, error: Overloaded | None) -> None:
        if self._decision.done():
            return
        if error is None:
            self._decision.set_result(None)
        else:
            self._decision.set_exception(error)
