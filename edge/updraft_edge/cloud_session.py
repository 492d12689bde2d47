"""A session with the cloud that survives a lost stream."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

import grpc
import grpc.aio

from updraft.engine.base import FloatRows
from updraft.errors import (
    CloudUnavailable,
    LateReply,
    LinkError,
    Overloaded,
    ProtocolViolation,
    UpdraftError,
)
from updraft.generation import Statistics
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge import wire
from updraft_edge.exits.upload import HiddenUpload
from updraft_edge.link import CloudLink
from updraft_edge.seams import HandOver
from updraft_edge.span_progress import SpanProgress
from updraft_edge.stream import CloudStream
from updraft_edge.tree import Branches, clipped
from updraft_edge.watch import Watch

__all__ = ["CloudSession"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class CloudSession:
    """A session with the cloud for one answer. The edge's token log is the truth; a lost stream is opened anew from it,
    and so is one that the cloud asks to open elsewhere.

    Args:
        token_log: the answer's log; the session reads it and never changes it.
        statistics: counts bytes, round trips, passes and time spent waiting.
        watch: the answer's, which names the session.
    """

    def __init__(
        self,
        link: CloudLink,
        opening: wire.Opening,
        token_log: TokenLog,
        statistics: Statistics,
        watch: Watch | None = None,
    ) -> None:
        self._link = link
        self._opening = opening
        self._log = token_log
        self._statistics = statistics
        self._watch = watch or Watch()
        self._stream: CloudStream | None = None
        self._was_open = False
        self._opening_now: asyncio.Task[None] | None = None
        self._settings = link.settings
        self._states = None if opening.hidden is None else HiddenUpload(opening.hidden)
        self._sending: asyncio.Task[None] | None = None
        self._guard = link.rules.guard(token_log, statistics)

    @property
    def away(self) -> bool:
        """The cloud failed lately: nobody should wait for it."""
        return not self._link.breaker.closed

    def prepare(self) -> None:
        """Begin opening the session, so that the cloud computes the prompt while the edge drafts.

        Raises Withheld where the prompt may not leave the device.
        """
        self._guard.open()
        self._opening_now = asyncio.create_task(self._open_early())

    def upload(self, position: int, states: FloatRows) -> None:
        """Send hidden states ahead, shape (count, width), of the log's tokens from `position` on.

        They replace those sent before from there on, and are kept to be sent again after a loss. Never waits and raises
        nothing: a lost link shows at the next `verify`. Ignored in a session that was not opened for them.
        """
        if self._states is not None:
            self._states.add(position, states)
            self._send_ahead()

    async def verify(self, run: Sequence[int], branches: Branches = ()) -> wire.Verdict:
        """A verdict on `run` or a branch of it after the log, once all hidden states before it are sent, if any are.

        Raises:
            LinkError, Overloaded: the cloud is away or late, also after opening the session again.
            InvalidRequest: the hidden states are not finite.
            Withheld: the log may not leave the device; what of the run may not is kept back and not judged.
            UpdraftError: the cloud refuses the session.
        """
        self._guard.log()
        run, branches = clipped(run, branches, self._guard.clip)

        async def attempt() -> wire.Verdict:
            stream = await self._ensure_open()
            if self._states is not None:
                await self._states.flush(stream.write, len(self._log) + len(run))
            await stream.write(wire.draft_frame(self._log, stream.synced, run, branches))
            frame = await stream.read_until("verdict")
            verdict = wire.read_verdict(frame.verdict, self._log, run, branches)
            stream.synced = frame.verdict.position
            self._guard.knows(stream.synced)
            self._guard.received(tokens=verdict.own is not None)
            if self._states is not None:
                self._states.rewind(len(self._log) + verdict.accepted)
            self._count(verdict.spent)
            return verdict

        self._statistics.round_trips += 1
        self._statistics.drafted += len(run) + sum(len(tokens) for _, tokens in branches)
        with self._watch.ask("verify", position=len(self._log), drafted=len(run)) as ask:
            verdict = await self._retried(attempt)
            ask.judged(verdict.accepted, verdict.spent.micros * 1e-6)
        self._statistics.accepted += verdict.accepted
        self._statistics.tolerated += verdict.tolerated
        return verdict

    async def score(
        self, tokens: Sequence[int], *, choices: Sequence[int] = (), each: bool = False, top_logprobs: int = 0
    ) -> wire.Scored:
        """How probable `tokens` are after the log (`each`) and `choices` are after them; the log stays as it is.

        Raises as `verify` does, and ProtocolViolation where log and tokens exceed the cloud's context.
        """

        async def attempt() -> wire.Scored:
            stream = await self._ensure_open()
            frame = wire.score_frame(self._log, stream.synced, tokens, choices, each=each, top_logprobs=top_logprobs)
            await stream.write(frame)
            stream.synced = len(self._log)
            scored = wire.read_scored((await stream.read_until("scored")).scored, tokens, choices, each=each)
            self._count(scored.spent)
            return scored

        self._statistics.round_trips += 1
        self._statistics.scored += len(tokens)
        with self._watch.ask("score", position=len(self._log), tokens=len(tokens)) as ask:
            scored = await self._retried(attempt)
            ask.scored(scored.spent.micros * 1e-6)
        return scored

    async def write(self, condition: HandOver) -> AsyncGenerator[wire.Span, None]:
        """Spans that the cloud writes until the condition holds; commit each to the log before asking for the next.

        Raises as `verify` does.
        """
        progress = SpanProgress(condition)

        async def begin() -> CloudStream:
            stream = await self._ensure_open()
            await stream.write(progress.frame(self._log, stream.synced, self._guard.room()))
            return stream

        async def advance() -> wire.Span:
            stream = self._stream or await begin()
            self._guard.may_read()
            frame = await stream.read_until("span")
            span = wire.read_span(frame.span, self._log)
            stream.synced = len(self._log) + len(span.tokens)
            self._guard.knows(stream.synced)
            self._guard.received(tokens=len(span.tokens))
            self._count(span.spent)
            return span

        self._statistics.round_trips += 1
        with self._watch.ask("write", position=len(self._log)) as ask:
            await self._retried(begin)
            while True:
                span = await self._retried(advance)
                progress.note(span)
                ask.wrote(len(span.tokens))
                yield span
                if span.last:
                    return

    async def close(self) -> None:
        """End the session politely if the stream is still there."""
        self._cancel_opening()
        self._guard.close()
        if self._stream is None:
            return
        self._states = None
        await self._stream.close()
        self.abandon()

    def abandon(self) -> None:
        """Drop the stream without a word: it is lost, or the answer is finished without the cloud."""
        self._cancel_opening()
        self._stop_sending()
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None

    async def _open_early(self) -> None:
        with contextlib.suppress(UpdraftError):  # whoever needs the session meets the error again
            await self._ensure_open()
            self._send_ahead()
            return
        self._opening_now = None
        self.abandon()

    def _send_ahead(self) -> None:
        """Write what is left of the hidden states while the edge goes on computing."""
        if self._states is None or self._stream is None or not self._states.behind:
            return
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_states(self._states, self._stream))

    async def _send_states(self, states: HiddenUpload, stream: CloudStream) -> None:
        # No timeout: whoever needs an answer has one, and meets the stream's error again.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, UpdraftError):
            await states.flush(stream.put, len(self._log))

    def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    async def _opening_done(self) -> None:
        if self._opening_now is not None:
            await asyncio.wait([self._opening_now])
            self._opening_now = None

    def _cancel_opening(self) -> None:
        if self._opening_now is not None:
            self._opening_now.cancel()
            self._opening_now = None

    async def _retried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run an attempt; after a lost stream open the session again from the log and try once more, a few times.

        Where the cloud says when to come again, that is waited for, as far as the settings have patience.
        """
        started = time.perf_counter()
        try:
            await self._opening_done()
            for attempts_left in range(self._settings.reconnect_attempts, -1, -1):
                try:
                    result = await attempt()
                except (LinkError, Overloaded) as error:
                    self.abandon()
                    # Frames that do not fit may be the link's fault: a session from the log finds out.
                    if not error.retryable and not isinstance(error, ProtocolViolation):
                        raise
                    self._link.heed(error)
                    patience = self._settings.overload_wait_s - (time.perf_counter() - started)
                    if not attempts_left or isinstance(error, LateReply) or self._link.rest_s > max(0.0, patience):
                        if not isinstance(error, Overloaded):  # which is no sign of death
                            self._link.breaker.failure()
                        raise
                    tried = self._settings.reconnect_attempts - attempts_left
                    await asyncio.sleep(max(self._settings.pause_s(tried), self._link.rest_s))
                    continue
                self._link.breaker.success()
                return result
        finally:
            self._statistics.waited_seconds += time.perf_counter() - started
        raise CloudUnavailable("The cloud cannot be reached.")

    async def _ensure_open(self) -> CloudStream:
        """The stream that frames go to, opened if need be. The cloud's answer to Open is read with the first reply, to
        save a round trip."""
        if self._stream is None:
            await self._link.rested()
            stream = self._take(self._begin())
            await stream.write(wire.open_frame(self._opening, self._log))
            return stream
        return await self._move(self._stream) if self._stream.draining else self._stream

    async def _move(self, old: CloudStream) -> CloudStream:
        """Open the session anew before leaving the old stream, as the cloud asked. Where none opens, the old one goes
        on until the cloud ends it."""
        old.draining = False
        new = self._begin()
        try:
            await new.write(wire.open_frame(self._opening, self._log))
            await new.read_until("opened")
        except BaseException as error:
            new.cancel()
            if not isinstance(error, LinkError | Overloaded):
                raise
            log.info("the session stays where it is: %s", error.message)
            return old
        self._stop_sending()
        self._take(new)
        await old.close()
        return new

    def _begin(self) -> CloudStream:
        """A new stream, to be opened from the log."""
        self._guard.open()
        stream = CloudStream(self._link, self._watch, self._guard, self._statistics)
        stream.synced = len(self._log)  # before the write, during which the edge may commit tokens alone
        return stream

    def _take(self, stream: CloudStream) -> CloudStream:
        """Frames go to this stream from now on, and hidden states all over again."""
        self._statistics.reopened += self._was_open
        self._was_open = True
        self._stream = stream
        if self._states is not None:
            self._states.rewind(0)
        return stream

    def _count(self, spent: pb.Spent) -> None:
        self._statistics.cloud_passes += spent.passes
        self._statistics.cloud_positions += spent.positions
        self._statistics.cloud_prefilled += spent.prefilled
        self._statistics.cloud_layers += spent.layers
