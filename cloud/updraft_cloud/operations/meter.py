"""What one session tells operators: counts, times, and its part of the request's trace."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from updraft.tracing import NO_SPAN, Span
from updraft_cloud.frames import Draft, End, Open, Reply, Score, Scored, Spent, TakeOver, Verdict, Work
from updraft_cloud.frames import Span as Written
from updraft_cloud.operations.metrics import CloudMetrics

__all__ = ["SessionMeter"]


@dataclass(slots=True)
class _Job:
    """A frame that is being answered, and what that took so far."""

    kind: str
    drafted: int
    span: Span
    tokens: int = 0
    spent: Spent = field(default_factory=Spent)

    def add(self, tokens: int, spent: Spent) -> None:
        self.tokens += tokens
        self.spent.passes += spent.passes
        self.spent.positions += spent.positions
        self.spent.prefilled += spent.prefilled
        self.spent.micros += spent.micros

    def end(self) -> None:
        spent = self.spent
        self.span.note(
            tokens=self.tokens,
            passes=spent.passes,
            positions=spent.positions,
            prefilled=spent.prefilled,
            engine_ms=spent.micros / 1000,
        )
        self.span.end()


class SessionMeter:
    """Takes an admitted session's frames in their order; `end` it exactly once.

    Args:
        span: the session's part of the trace; each frame that asks for an answer becomes a part of it.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        metrics: CloudMetrics,
        opening: Open,
        span: Span = NO_SPAN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._span = span
        self._clock = clock
        self._began = self._since = clock()
        self._waits_for_first = not opening.generated
        self._job: _Job | None = None
        metrics.opened(resumed=bool(opening.generated))

    def asked(self, work: Work) -> None:
        """A frame arrived."""
        match work:
            case Draft():
                self._begin(work, "verify", len(work.run) + sum(len(branch.tokens) for branch in work.branches))
            case TakeOver():
                self._begin(work, "write")
            case Score():
                self._begin(work, "score")

    def answered(self, reply: Reply) -> None:
        """An answer is about to leave."""
        job = self._job
        if job is None or not isinstance(reply, Verdict | Written | Scored):
            return
        now = self._clock()
        self._metrics.answered(job.kind, now - self._since, reply.spent.passes)
        self._since = now
        if reply.spent.queued is not None:
            job.span.note(queued_ms=reply.spent.queued / 1000)
            self._metrics.queued(reply.spent.queued * 1e-6)
        job.add(self._count(reply, job), reply.spent)
        if job.tokens and self._waits_for_first:
            self._waits_for_first = False
            self._metrics.first_token(now - self._began)
        if not isinstance(reply, Written) or reply.end is not End.NOT_YET:
            self._drop()

    def end(self, reason: str) -> None:
        """The session is over: `closed` by the edge, `gone` without a word, or failed with an error's code."""
        self._drop()
        self._metrics.ended(reason)

    def _begin(self, work: Draft | TakeOver | Score, kind: str, drafted: int = 0) -> None:
        self._drop()
        self._since = self._clock()
        self._metrics.committed(len(work.committed))
        span = self._span.child(kind, position=work.position + len(work.committed), drafted=drafted)
        self._job = _Job(kind, drafted, span)

    def _count(self, reply: Verdict | Written | Scored, job: _Job) -> int:
        """Count what an answer commits; how many tokens that are."""
        if isinstance(reply, Verdict):
            self._metrics.judged(reply, job.drafted)
            job.span.note(accepted=reply.accepted, tolerated=reply.tolerated)
            return reply.accepted + (reply.token is not None)
        if isinstance(reply, Written):
            self._metrics.wrote(len(reply.tokens))
            return len(reply.tokens)
        return 0

    def _drop(self) -> None:
        """The frame that was being answered is answered, or never will be."""
        if self._job is not None:
            self._job.end()
            self._job = None
