"""One stream of frames to the cloud and back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio

from updraft.errors import (
    CloudUnavailable,
    LateReply,
    LinkError,
    LogMismatch,
    ProtocolViolation,
    UpdraftError,
)
from updraft.generation import Statistics
from updraft.transport import drop_call
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge import wire
from updraft_edge.link import CloudLink, lost
from updraft_edge.rules.guard import Guard
from updraft_edge.watch import Watch

__all__ = ["CloudStream"]

log = logging.getLogger(__name__)

if TYPE_CHECKING:  # gRPC's own classes are generic in their type stubs only
    Call = grpc.aio.StreamStreamCall[pb.EdgeFrame, pb.CloudFrame]


class CloudStream:
    """A stream of one session: it numbers, guards, counts and times the frames of both directions.

    Args:
        watch: the answer's: it names the session, the same for all its streams, and hears of notices.
        statistics: counts bytes.

    Attributes:
        synced: tokens of the log that the cloud has from this stream.
        opened: the cloud has taken the session.
        draining: the cloud asked for the session to be opened elsewhere.
    """

    def __init__(self, link: CloudLink, watch: Watch, guard: Guard, statistics: Statistics) -> None:
        self.synced = 0
        self.opened = False
        self.draining = False
        self._link = link
        self._guard = guard
        self._statistics = statistics
        self._settings = link.settings
        self._slowed_s = 0.0  # what the cloud said that its next answer will take longer
        self._sent = 0
        self._received = 0
        self._writing = asyncio.Lock()  # frames keep their order, and gRPC takes one write at a time
        self._watch = watch
        self._call: Call = link.stub().Session(metadata=(*link.metadata(watch.name), *watch.span.headers))

    async def put(self, frame: pb.EdgeFrame) -> None:
        """Number a frame and write it after those that wait. Raises Withheld, and gRPC's own exceptions."""
        async with self._writing:
            frame.sequence = self._sent + 1
            size = frame.ByteSize() + wire.FRAME_OVERHEAD
            self._guard.frame(frame, size)
            self._sent += 1
            await self._call.write(frame)
        self._statistics.bytes_up += size
        if frame.HasField("hidden"):
            self._statistics.hidden_bytes_up += size

    async def write(self, frame: pb.EdgeFrame) -> None:
        """As `put`, within the connection's timeout. Raises Withheld, LinkError, or why the cloud broke off."""
        try:  # not wait_for, which loses a cancellation that comes with the result
            async with asyncio.timeout(self._settings.connect_timeout_s):
                await self.put(frame)
        except TimeoutError as error:
            raise self._late(self._settings.connect_timeout_s) from error
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise await self._reason() from error

    async def read_until(self, kind: str) -> pb.CloudFrame:
        """The next frame of a kind; Opened and Notice are taken in on the way.

        Raises:
            LinkError: the stream is lost or silent, or its frames make no sense.
            UpdraftError: whatever the cloud ends the session with.
        """
        while True:
            frame = await self._read()
            price = wire.read_price(frame)
            if price is not None:
                self._link.on_price(price)
            body = frame.WhichOneof("body")
            if body == "opened":
                self.opened = True
            if body == kind:
                self._slowed_s = 0.0
                return frame
            if body == "error":
                raise wire.read_error(frame.error)
            if body == "notice":
                self._note(frame.notice)
            elif body != "opened":
                raise ProtocolViolation(f"A frame {body!r} arrived where {kind!r} was due.")

    async def close(self) -> None:
        """End the session politely, if the stream is still there."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError, UpdraftError):
            async with asyncio.timeout(0.2):
                await self.put(pb.EdgeFrame(close=pb.Close()))
                await self._call.done_writing()
        self.cancel()

    def cancel(self) -> None:
        """Drop the stream without a word."""
        drop_call(self._call)

    async def _read(self) -> pb.CloudFrame:
        patience = self._settings.reply_timeout_s if self.opened else self._settings.connect_timeout_s
        patience += self._slowed_s
        try:
            async with asyncio.timeout(patience):
                frame: Any = await self._call.read()
        except TimeoutError as error:
            raise self._late(patience) from error
        except grpc.aio.AioRpcError as error:
            raise lost(error) from error
        if frame is cast("Any", grpc.aio).EOF:
            raise CloudUnavailable("The cloud ended the session.")
        if not isinstance(frame, pb.CloudFrame):  # gRPC's way to say that it could not be decoded
            raise ProtocolViolation("A frame of the cloud cannot be read.")
        self._received += 1
        if frame.sequence != self._received:
            raise LogMismatch(f"Frame {frame.sequence} arrived where {self._received} was due.")
        size = frame.ByteSize() + wire.FRAME_OVERHEAD
        self._statistics.bytes_down += size
        self._guard.received(size=size)
        return frame

    def _note(self, notice: pb.Notice) -> None:
        log.info("notice from the cloud: %s", notice.message)
        if notice.kind == pb.Notice.KIND_DRAIN:
            self.draining = True
            self._watch.noticed("drain")
        elif notice.kind == pb.Notice.KIND_SLOW_DOWN:
            self._watch.noticed("slow_down")
            self._slowed_s = min(notice.retry_after_ms / 1000, self._settings.reply_timeout_s)

    def _late(self, seconds: float) -> LinkError:
        if self.opened:
            return LateReply(f"The cloud did not answer within {seconds:g} s.")
        return CloudUnavailable(f"The cloud did not open the session within {seconds:g} s.")

    async def _reason(self) -> UpdraftError:
        """Why a write failed. If the cloud refused the stream during the write, gRPC puts a status of its own in the
        place of the cloud's: a plain call brings the reason. One that nobody answers brings none, and no verdict is
        late for it: the session is opened again."""
        try:
            await self._link.describe()
        except LateReply as error:
            return CloudUnavailable(error.message)
        except UpdraftError as error:
            return error
        return CloudUnavailable("The stream is broken.")
