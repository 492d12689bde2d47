"""A session with the cloud that survives a lost stream."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc
import grpc.aio

from updraft.engine.base import FloatRows
from updraft.errors import (
    CloudUnavailable,
    LateReply,
    LinkError,
    LogMismatch,
    Overloaded,
    ProtocolViolation,
    UpdraftError,
)
from updraft.generation import Statistics
from updraft.token_log import TokenLog
from updraft.transport import error_from_rpc
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge import wire
from updraft_edge.exits.upload import HiddenUpload
from updraft_edge.link import CloudLink
from updraft_edge.seams import HandOver
from updraft_edge.span_progress import SpanProgress
from updraft_edge.tree import Branches, clipped

__all__ = ["CloudSession"]

log = logging.getLogger(__name__)

T = TypeVar("T")

if TYPE_CHECKING:  # gRPC's own classes are generic in their type stubs only
    Call = grpc.aio.StreamStreamCall[pb.EdgeFrame, pb.CloudFrame]


class CloudSession:
    """A session with the cloud for one answer. The edge's token log is the truth; a lost stream is opened anew from it.

    Args:
        token_log: the answer's log; the session reads it and never changes it.
        statistics: counts bytes, round trips, passes and time spent waiting.
    """

    def __init__(self, link: CloudLink, opening: wire.Opening, token_log: TokenLog, statistics: Statistics) -> None:
        self._link = link
        self._opening = opening
        self._log = token_log
        self._statistics = statistics
        self._call: Call | None = None
        self._synced = 0
        self._sent = 0
        self._received = 0
        self._opened = False
        self._opening_now: asyncio.Task[None] | None = None
        self._settings = link.settings
        self._states = None if opening.hidden is None else HiddenUpload(opening.hidden)
        self._sending: asyncio.Task[None] | None = None
        self._guard = link.rules.guard(token_log, statistics)
        self._writing = asyncio.Lock()  # frames keep their order, and gRPC takes one write at a time

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
            await self._ensure_open()
            if self._states is not None:
                await self._states.flush(self._write, len(self._log) + len(run))
            await self._write(wire.draft_frame(self._log, self._synced, run, branches))
            frame = await self._read_until("verdict")
            verdict = wire.read_verdict(frame.verdict, self._log, run, branches)
            self._synced = frame.verdict.position
            self._guard.knows(self._synced)
            self._guard.received(tokens=verdict.own is not None)
            if self._states is not None:
                self._states.rewind(len(self._log) + verdict.accepted)
            self._count(verdict.spent)
            return verdict

        self._statistics.round_trips += 1
        self._statistics.drafted += len(run) + sum(len(tokens) for _, tokens in branches)
        verdict = await self._retried(attempt)
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
            await self._ensure_open()
            frame = wire.score_frame(self._log, self._synced, tokens, choices, each=each, top_logprobs=top_logprobs)
            await self._write(frame)
            self._synced = len(self._log)
            scored = wire.read_scored((await self._read_until("scored")).scored, tokens, choices, each=each)
            self._count(scored.spent)
            return scored

        self._statistics.round_trips += 1
        self._statistics.scored += len(tokens)
        return await self._retried(attempt)

    async def write(self, condition: HandOver) -> AsyncGenerator[wire.Span, None]:
        """Spans that the cloud writes until the condition holds; commit each to the log before asking for the next.

        Raises as `verify` does.
        """
        progress = SpanProgress(condition)

        async def begin() -> None:
            await self._ensure_open()
            await self._write(progress.frame(self._log, self._synced, self._guard.room()))

        async def advance() -> wire.Span:
            if self._call is None:
                await begin()
            self._guard.may_read()
            frame = await self._read_until("span")
            span = wire.read_span(frame.span, self._log)
            self._synced = len(self._log) + len(span.tokens)
            self._guard.knows(self._synced)
            self._guard.received(tokens=len(span.tokens))
            self._count(span.spent)
            return span

        self._statistics.round_trips += 1
        await self._retried(begin)
        while True:
            span = await self._retried(advance)
            progress.note(span)
            yield span
            if span.last:
                return

    async def close(self) -> None:
        """End the session politely if the stream is still there."""
        self._cancel_opening()
        self._guard.close()
        if self._call is None:
            return
        self._states = None
        call = self._call
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError, UpdraftError):
            await asyncio.wait_for(self._put(pb.EdgeFrame(close=pb.Close())), 0.2)
            await asyncio.wait_for(call.done_writing(), 0.2)
        self.abandon()

    def abandon(self) -> None:
        """Drop the stream without a word: it is lost, or the answer is finished without the cloud."""
        self._cancel_opening()
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        if self._call is not None:
            self._call.cancel()
            self._call = None

    async def _open_early(self) -> None:
        with contextlib.suppress(UpdraftError):  # whoever needs the session meets the error again
            await self._ensure_open()
            self._send_ahead()
            return
        self._opening_now = None
        self.abandon()

    def _send_ahead(self) -> None:
        """Write what is left of the hidden states while the edge goes on computing."""
        if self._states is None or self._call is None or not self._states.behind:
            return
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_states(self._states))

    async def _send_states(self, states: HiddenUpload) -> None:
        # No timeout: whoever needs an answer has one, and meets the stream's error again.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, UpdraftError):
            await states.flush(self._put, len(self._log))

    async def _opening_done(self) -> None:
        if self._opening_now is not None:
            await asyncio.wait([self._opening_now])
            self._opening_now = None

    def _cancel_opening(self) -> None:
        if self._opening_now is not None:
            self._opening_now.cancel()
            self._opening_now = None

    async def _retried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run an attempt; after a lost stream open the session again from the log and try once more, a few times."""
        started = time.perf_counter()
        try:
            await self._opening_done()
            for attempts_left in range(self._settings.reconnect_attempts, -1, -1):
                try:
                    result = await attempt()
                except (LinkError, Overloaded) as error:
                    self.abandon()
                    if not error.retryable:
                        raise
                    if not attempts_left or isinstance(error, LateReply):
                        self._link.breaker.failure()
                        raise
                    tried = self._settings.reconnect_attempts - attempts_left
                    await asyncio.sleep(self._settings.reconnect_backoff_s * 2**tried)
                    continue
                self._link.breaker.success()
                return result
        finally:
            self._statistics.waited_seconds += time.perf_counter() - started
        raise CloudUnavailable("The cloud cannot be reached.")

    async def _ensure_open(self) -> None:
        """Open the stream and send Open; the cloud's answer is read with the first reply, to save a round trip."""
        if self._call is not None:
            return
        self._guard.open()
        if self._sent:
            self._statistics.reopened += 1
        if self._states is not None:
            self._states.rewind(0)
        self._call = self._link.stub().Session(metadata=self._link.metadata())
        self._sent = self._received = 0
        self._opened = False
        self._synced = len(self._log)  # before the write, during which the edge may commit tokens alone
        await self._write(wire.open_frame(self._opening, self._log))

    async def _put(self, frame: pb.EdgeFrame) -> None:
        """Number a frame and write it after those that wait."""
        async with self._writing:
            call = self._open_call()
            frame.sequence = self._sent + 1
            size = frame.ByteSize() + wire.FRAME_OVERHEAD
            self._guard.frame(frame, size)
            self._sent += 1
            await call.write(frame)
        self._statistics.bytes_up += size
        if frame.HasField("hidden"):
            self._statistics.hidden_bytes_up += size

    async def _write(self, frame: pb.EdgeFrame) -> None:
        try:
            await asyncio.wait_for(self._put(frame), self._settings.connect_timeout_s)
        except TimeoutError as error:
            raise self._late(self._settings.connect_timeout_s) from error
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise await self._reason() from error

    async def _read_until(self, kind: str) -> pb.CloudFrame:
        """The next frame of a kind; Opened and Notice are taken in on the way."""
        while True:
            frame = await self._read()
            body = frame.WhichOneof("body")
            if body == kind:
                return frame
            if body == "error":
                raise wire.read_error(frame.error)
            if body == "opened":
                self._opened = True
            elif body == "notice":
                log.info("notice from the cloud: %s", frame.notice.message)
            else:
                raise ProtocolViolation(f"A frame {body!r} arrived where {kind!r} was due.")

    async def _read(self) -> pb.CloudFrame:
        call = self._open_call()
        patience = self._settings.reply_timeout_s if self._opened else self._settings.connect_timeout_s
        try:
            frame = cast("pb.CloudFrame", await asyncio.wait_for(call.read(), patience))
        except TimeoutError as error:
            raise self._late(patience) from error
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        if frame is cast("Any", grpc.aio).EOF:
            raise CloudUnavailable("The cloud ended the session.")
        self._received += 1
        if frame.sequence != self._received:
            raise LogMismatch(f"Frame {frame.sequence} arrived where {self._received} was due.")
        size = frame.ByteSize() + wire.FRAME_OVERHEAD
        self._statistics.bytes_down += size
        self._guard.received(size=size)
        return frame

    def _late(self, seconds: float) -> LinkError:
        if self._opened:
            return LateReply(f"The cloud did not answer within {seconds:g} s.")
        return CloudUnavailable(f"The cloud did not open the session within {seconds:g} s.")

    async def _reason(self) -> UpdraftError:
        """Why a write failed. If the cloud refused the stream during the write, gRPC puts a status of its own in the
        place of the cloud's: a plain call brings the reason."""
        try:
            await self._link.describe()
        except UpdraftError as error:
            return error
        return CloudUnavailable("The stream is broken.")

    def _open_call(self) -> Call:
        if self._call is None:
            raise CloudUnavailable("The session is not open.")
        return self._call

    def _count(self, spent: pb.Spent) -> None:
        self._statistics.cloud_passes += spent.passes
        self._statistics.cloud_positions += spent.positions
        self._statistics.cloud_prefilled += spent.prefilled
        self._statistics.cloud_layers += spent.layers
