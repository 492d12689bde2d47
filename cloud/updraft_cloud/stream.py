"""One gRPC stream: numbers, checks and times the frames of both directions."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator

import grpc.aio
from google.protobuf.message import DecodeError

from updraft.errors import CloudUnavailable, LateReply, ProtocolViolation, UpdraftError
from updraft.failpoints import reach_async
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud import wire
from updraft_cloud.admission.doors import Visit, positions_of
from updraft_cloud.frames import Close, Draft, Failed, Frame, Limits, Open, Reply, Score, Span, TakeOver, Work
from updraft_cloud.messages import Deliver
from updraft_cloud.operations.meter import SessionMeter
from updraft_cloud.operations.metrics import CloudMetrics

__all__ = ["Context", "Stream"]

Context = grpc.aio.ServicerContext[pb.EdgeFrame, pb.CloudFrame]


class Stream:
    """A session's stream, in the front end's event loop.

    Args:
        number: of the session, for the engine.
        name: of the session, for the edge and for logs.
        tenant: whose it is.
        limits: what a frame may hold.
        metrics: counts bytes and notices.
        write_timeout_s: longest wait for an edge that does not read.
        idle_timeout_s: longest wait for a frame from an edge that waits for nothing.

    Attributes:
        visit: what admission knows of it, once it was let in.
        meter: what operators learn of it, once it was let in.
        ended: how it ended: `closed` by the edge, with an error's code, else `gone`.
        begun: the engine knows it.
    """

    def __init__(
        self,
        context: Context,
        number: int,
        name: str,
        tenant: str,
        limits: Limits,
        metrics: CloudMetrics,
        *,
        write_timeout_s: float,
        idle_timeout_s: float,
    ) -> None:
        self.name = name
        self.number = number
        self.tenant = tenant
        self.visit: Visit | None = None
        self.meter: SessionMeter | None = None
        self.ended = "gone"
        self.begun = False
        self._context = context
        self._limits = limits
        self._metrics = metrics
        self._write_timeout_s = write_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._outgoing: asyncio.Queue[pb.CloudFrame | None] = asyncio.Queue()
        self._owed = False  # the engine works for it
        self._received = 0
        self._sent = 0

    def notify(self, kind: pb.Notice.Kind, message: str, retry_after_ms: int = 0) -> None:
        """Queue advice for the edge."""
        self._outgoing.put_nowait(wire.notice_frame(kind, message, retry_after_ms))

    def answer(self, reply: Reply) -> None:
        """Queue what the session answered."""
        if not isinstance(reply, Span) or reply.end:
            self._owed = False
        if isinstance(reply, Failed):
            self.ended = reply.code
        if self.meter is not None:
            self.meter.answered(reply)
        if isinstance(reply, Span) and self.visit is not None:
            self.visit.spend(len(reply.tokens))
        self._outgoing.put_nowait(wire.reply_frame(reply))

    async def send(self, frame: pb.CloudFrame) -> None:
        """Write a frame now. Raises LateReply if the edge does not read."""
        self._sent += 1
        frame.sequence = self._sent
        self._metrics.moved("down", frame.ByteSize())
        if frame.HasField("notice"):
            self._metrics.notice(frame.notice.kind)
        if await reach_async("front.before_write"):
            return
        try:  # not wait_for, which loses a cancellation that comes with the result
            async with asyncio.timeout(self._write_timeout_s):
                await self._context.write(frame)
        except TimeoutError as error:
            raise LateReply(f"The edge did not read for {self._write_timeout_s:g} s.") from error

    async def read_open(self, frames: AsyncIterator[pb.EdgeFrame], timeout_s: float) -> Open:
        """The first frame.

        Raises:
            LateReply: the edge says nothing.
            ProtocolViolation: it is no Open; or what reading it raises.
        """
        try:
            async with asyncio.timeout(timeout_s):
                message = await anext(frames)
        except TimeoutError as error:
            raise LateReply(f"The edge said nothing for {timeout_s:g} s.") from error
        except StopAsyncIteration as error:
            raise ProtocolViolation("The stream holds no Open.") from error
        except DecodeError as error:
            raise ProtocolViolation("A frame cannot be read.") from error
        frame = self._decode(message)
        if not isinstance(frame, Open):
            raise ProtocolViolation("The first frame must be Open.")
        return frame

    async def read_frames(self, frames: AsyncIterator[pb.EdgeFrame], deliver: Callable[[Deliver], None]) -> None:
        """Hand frames on until Close, an error, or the end of the edge's stream."""
        try:
            async for message in frames:
                if await reach_async("front.receive"):
                    continue
                frame = self._decode(message)
                if isinstance(frame, Close):
                    self.ended = "closed"
                    break
                delivery = self._delivery(frame)
                await self._hold_back(delivery.work)
                deliver(delivery)
            self._outgoing.put_nowait(None)
        except UpdraftError as error:
            self.answer(Failed.of(error))
        except DecodeError:
            self.answer(Failed.of(ProtocolViolation("A frame cannot be read.")))

    async def write_frames(self) -> None:
        """Send what is queued until the session ends or has been idle for too long."""
        while True:
            received = self._received
            try:
                async with asyncio.timeout(self._idle_timeout_s):
                    frame = await self._outgoing.get()
            except TimeoutError as error:
                if not self._owed and received == self._received:
                    message = f"The session was idle for {self._idle_timeout_s:g} s."
                    raise LateReply(message, remedy="Open it again from the token log.") from error
                continue
            if frame is None:
                return
            await self.send(frame)
            if frame.HasField("error"):
                return

    @contextlib.contextmanager
    def aging(self, age_s: float | None, grace_s: float) -> Iterator[None]:
        """At about that age the edge is asked to open the session again, and after the grace it must."""
        if age_s is None:
            yield
            return
        loop = asyncio.get_running_loop()
        age_s *= random.uniform(0.9, 1.1)
        over = CloudUnavailable("The session is as old as one may be.", remedy="Open it again from the token log.")
        timers = (
            loop.call_later(age_s, self.notify, pb.Notice.KIND_DRAIN, over.message),
            loop.call_later(age_s + grace_s, self.answer, Failed.of(over)),
        )
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()

    async def _hold_back(self, work: Work) -> None:
        """Wait until the tenant's rate allows a frame. Raises Overloaded where that takes too long."""
        seconds = 0.0 if self.visit is None else self.visit.charge(positions_of(work))
        if seconds > 0:
            self.notify(pb.Notice.KIND_SLOW_DOWN, "The frame is held back for your rate.", math.ceil(1000 * seconds))
            await asyncio.sleep(seconds)

    def _delivery(self, frame: Work | Open) -> Deliver:
        if isinstance(frame, Open):
            raise ProtocolViolation("A session is opened once.")
        if isinstance(frame, Draft | TakeOver | Score):
            self._owed = True
        if self.meter is not None:
            self.meter.asked(frame)
        return Deliver(self.number, frame, time.monotonic(), self._deadline)

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the edge stops waiting, if it said so."""
        left: float | None = self._context.time_remaining()
        return left

    @property
    def _deadline(self) -> float | None:
        left = self.remaining_s
        return None if left is None else time.monotonic() + left

    def _decode(self, message: pb.EdgeFrame) -> Frame:
        self._received += 1
        self._metrics.moved("up", message.ByteSize())
        if message.sequence != self._received:
            raise ProtocolViolation(f"Frame {message.sequence} arrived where {self._received} was due.")
        return wire.read_frame(message, self._limits)
