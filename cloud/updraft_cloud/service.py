"""The gRPC service: one bidirectional stream a session, in front of the engine loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import grpc.aio

from updraft import __version__
from updraft.engine.loop import EngineLoop
from updraft.errors import CloudUnavailable, LateReply, Overloaded, ProtocolViolation, UpdraftError
from updraft.v1 import collaboration_pb2 as pb
from updraft.v1 import collaboration_pb2_grpc
from updraft_cloud import wire
from updraft_cloud.pending_states import entry_stages
from updraft_cloud.session import Session as OpenSession
from updraft_cloud.tree import Copies

__all__ = ["CollaborationService", "ServiceLimits"]

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[pb.EdgeFrame, pb.CloudFrame]


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """Bounds of the service; times in seconds, the chunk in tokens."""

    max_sessions: int = 64
    prefill_chunk: int = 48
    write_timeout_s: float = 10.0
    idle_timeout_s: float = 300.0


class CollaborationService(collaboration_pb2_grpc.CollaborationServicer):
    """Turns streams into sessions of the engine loop and back."""

    def __init__(self, loop: EngineLoop, limits: ServiceLimits) -> None:
        self._loop = loop
        self._limits = limits
        engine = loop.engine
        # A draft needs a row for the token before it and one for each of its own.
        self._boundaries = tuple(entry_stages(engine))
        width = engine.info.width if self._boundaries else 0
        self._wire_limits = wire.Limits(engine.info.vocabulary, engine.context, engine.max_run - 1, width)
        self._copies = Copies(loop)
        self._places = asyncio.Semaphore(engine.max_sequences)
        self._streams: set[_Stream] = set()
        self._draining = False

    @property
    def active(self) -> int:
        """Streams that are open, also those that wait for a place."""
        return len(self._streams)

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        info = self._loop.engine.info
        return pb.DescribeResponse(
            model=info.name,
            fingerprint=info.fingerprint,
            tokenizer_hash=info.tokenizer_hash,
            vocabulary=info.vocabulary,
            context=self._wire_limits.context,
            max_draft=self._wire_limits.max_draft,
            version=__version__,
            layers=info.layers,
            weight_bytes=info.weight_bytes,
            boundaries=self._boundaries,
            width=info.width,
        )

    async def Session(self, frames: AsyncIterator[pb.EdgeFrame], context: Context) -> None:
        stream = _Stream(context, self._wire_limits, self._limits)
        self._streams.add(stream)
        try:
            await self._serve(stream, frames)
        except UpdraftError as error:
            log.info("session %s ended: %s", stream.name, error.code)
            with contextlib.suppress(UpdraftError):
                await stream.send(wire.error_frame(error))
        finally:
            self._streams.discard(stream)

    async def drain(self, seconds: float) -> None:
        """Take no new sessions, ask the open ones to go, and wait for them."""
        self._draining = True
        for stream in self._streams:
            stream.emit(wire.notice_frame(pb.Notice.KIND_DRAIN, "The service is going away."))
        deadline = asyncio.get_running_loop().time() + seconds
        while self._streams and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)

    async def _serve(self, stream: _Stream, frames: AsyncIterator[pb.EdgeFrame]) -> None:
        # An edge that is turned away before it has written sees a broken stream and not the reason.
        opening = await stream.read_open(frames)
        if self._draining:
            raise CloudUnavailable("The service is going away.")
        if sum(stream.admitted for stream in self._streams) >= self._limits.max_sessions:
            raise Overloaded(f"{self._limits.max_sessions} sessions are open, which is the most this cloud takes.")
        stream.admitted = True
        info = self._loop.engine.info
        opening.check_model(info, self._boundaries)
        await stream.send(wire.opened_frame(stream.name, info, self._wire_limits))
        if self._places.locked():
            await stream.send(wire.notice_frame(pb.Notice.KIND_SLOW_DOWN, "All places are taken; the session waits."))
        async with self._session(stream, opening) as session:
            reader = asyncio.create_task(stream.read_frames(frames, self._loop, session))
            try:
                await stream.write_frames(session)
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _session(self, stream: _Stream, opening: wire.Open) -> AsyncIterator[OpenSession]:
        """A session in the engine loop; its place is free again when its sequence is."""
        await self._places.acquire()
        here = asyncio.get_running_loop()
        created: list[OpenSession] = []

        def create() -> OpenSession:
            self._copies.make_room()
            chunk, copies = self._limits.prefill_chunk, self._copies
            session = OpenSession(self._loop.engine, opening, stream.emit, chunk=chunk, copies=copies)
            created.append(session)
            self._loop.add(session)
            return session

        def discard() -> None:
            for session in created:
                self._loop.remove(session)
                session.close()
            here.call_soon_threadsafe(self._places.release)

        try:
            yield await asyncio.wrap_future(self._loop.call(create))
        finally:
            self._loop.post(discard)


class _Stream:
    """One gRPC stream: numbers, checks and times the frames of both directions."""

    def __init__(self, context: Context, wire_limits: wire.Limits, limits: ServiceLimits) -> None:
        self.name = secrets.token_hex(8)
        self.admitted = False
        self._context = context
        self._wire_limits = wire_limits
        self._limits = limits
        self._asyncio = asyncio.get_running_loop()
        self._outgoing: asyncio.Queue[pb.CloudFrame | None] = asyncio.Queue()
        self._received = 0
        self._sent = 0

    def emit(self, frame: pb.CloudFrame | None) -> None:
        """Queue a frame for the edge; None ends the stream. Thread-safe."""
        self._asyncio.call_soon_threadsafe(self._outgoing.put_nowait, frame)

    async def send(self, frame: pb.CloudFrame) -> None:
        """Write a frame now. Raises LateReply if the edge does not read."""
        self._sent += 1
        frame.sequence = self._sent
        try:
            await asyncio.wait_for(self._context.write(frame), self._limits.write_timeout_s)
        except TimeoutError as error:
            raise LateReply(f"The edge did not read for {self._limits.write_timeout_s:g} s.") from error

    async def read_open(self, frames: AsyncIterator[pb.EdgeFrame]) -> wire.Open:
        try:
            message = await asyncio.wait_for(anext(frames), self._limits.write_timeout_s)
        except (StopAsyncIteration, TimeoutError) as error:
            raise ProtocolViolation("The stream holds no Open.") from error
        frame = self._decode(message)
        if not isinstance(frame, wire.Open):
            raise ProtocolViolation("The first frame must be Open.")
        return frame

    async def read_frames(self, frames: AsyncIterator[pb.EdgeFrame], loop: EngineLoop, session: OpenSession) -> None:
        """Hand frames to the session until Close, an error, or the end of the edge's stream."""
        try:
            async for message in frames:
                frame = self._decode(message)
                if isinstance(frame, wire.Close):
                    break
                loop.post(self._delivery(session, frame))
            self.emit(None)
        except UpdraftError as error:
            self.emit(wire.error_frame(error))

    async def write_frames(self, session: OpenSession) -> None:
        """Send what the session emits until it ends or has been idle for too long."""
        while True:
            received = self._received
            try:
                frame = await asyncio.wait_for(self._outgoing.get(), self._limits.idle_timeout_s)
            except TimeoutError as error:
                if session.idle and received == self._received:
                    message = f"The session was idle for {self._limits.idle_timeout_s:g} s."
                    raise LateReply(message, remedy="Open it again from the token log.") from error
                continue
            if frame is None:
                return
            await self.send(frame)
            if frame.HasField("error"):
                return

    def _decode(self, message: pb.EdgeFrame) -> wire.Frame:
        self._received += 1
        if message.sequence != self._received:
            raise ProtocolViolation(f"Frame {message.sequence} arrived where {self._received} was due.")
        return wire.read_frame(message, self._wire_limits)

    def _delivery(self, session: OpenSession, frame: wire.Frame) -> Callable[[], None]:
        """The command that gives a frame to the session in the loop's thread."""

        def deliver() -> None:
            try:
                match frame:
                    case wire.Draft():
                        session.take_draft(frame)
                    case wire.TakeOver():
                        session.take_over(frame)
                    case wire.Score():
                        session.take_score(frame)
                    case wire.Hidden():
                        session.take_hidden(frame)
                    case wire.Cancel():
                        session.cancel()
                    case _:
                        raise ProtocolViolation("A session is opened once.")
            except UpdraftError as error:
                self.emit(wire.error_frame(error))

        return deliver
