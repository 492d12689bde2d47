"""The gRPC service: one bidirectional stream a session, in front of the engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count

from updraft import __version__
from updraft.errors import CloudUnavailable, Overloaded, UpdraftError
from updraft.transport import caller
from updraft.v1 import collaboration_pb2 as pb
from updraft.v1 import collaboration_pb2_grpc
from updraft_cloud import wire
from updraft_cloud.engine_host import EngineHost
from updraft_cloud.frames import Failed, Limits
from updraft_cloud.identity import SessionNames
from updraft_cloud.messages import Begin, Emitted, Finish, FromEngine
from updraft_cloud.stream import Context, Stream

__all__ = ["CollaborationService", "ServiceLimits"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """Bounds of the service; times in seconds."""

    max_sessions: int = 64
    write_timeout_s: float = 10.0
    idle_timeout_s: float = 300.0


class CollaborationService(collaboration_pb2_grpc.CollaborationServicer):
    """Turns streams into sessions of the engine and back. It is the engine's `Listener`."""

    def __init__(self, host: EngineHost, limits: ServiceLimits) -> None:
        self._host = host
        self._limits = limits
        self._streams: dict[int, Stream] = {}
        self._numbers = count(1)
        self._names = SessionNames()
        self._draining = False

    @property
    def active(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    def heard(self, message: FromEngine) -> None:
        if isinstance(message, Emitted):
            for number, reply in message.replies:
                stream = self._streams.get(number)
                if stream is not None:
                    stream.answer(reply)

    def lost(self) -> None:
        """The engine has died: its sessions are opened again by their edges, from the log that each of them has."""
        away = Failed.of(CloudUnavailable("The engine has died and is being started again."))
        for stream in self._streams.values():
            if stream.begun:
                stream.answer(away)

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        served = self._host.description
        return pb.DescribeResponse(
            model=served.info.name,
            fingerprint=served.info.fingerprint,
            tokenizer_hash=served.info.tokenizer_hash,
            vocabulary=served.info.vocabulary,
            context=self._wire_limits.context,
            max_draft=self._wire_limits.max_draft,
            version=__version__,
            layers=served.info.layers,
            weight_bytes=served.info.weight_bytes,
            boundaries=served.boundaries,
            width=served.info.width,
        )

    async def Session(self, frames: AsyncIterator[pb.EdgeFrame], context: Context) -> None:
        tenant = caller().tenant
        stream = Stream(
            context,
            next(self._numbers),
            self._names.name(tenant, context.invocation_metadata() or ()),
            tenant,
            self._wire_limits,
            write_timeout_s=self._limits.write_timeout_s,
            idle_timeout_s=self._limits.idle_timeout_s,
        )
        self._streams[stream.number] = stream
        try:
            await self._serve(stream, frames)
        except UpdraftError as error:
            log.info("session %s ended: %s", stream.name, error.code)
            with contextlib.suppress(UpdraftError):
                await stream.send(wire.reply_frame(Failed.of(error)))
        finally:
            del self._streams[stream.number]

    async def drain(self, seconds: float) -> None:
        """Take no new sessions, ask the open ones to go, and wait for them."""
        self._draining = True
        for stream in self._streams.values():
            stream.notify(pb.Notice.KIND_DRAIN, "The service is going away.")
        deadline = asyncio.get_running_loop().time() + seconds
        while self._streams and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)

    @property
    def _wire_limits(self) -> Limits:
        served = self._host.description
        width = served.info.width if served.boundaries else 0
        # A draft needs a row for the token before it and one for each of its own.
        return Limits(served.info.vocabulary, served.context, served.max_run - 1, width)

    async def _serve(self, stream: Stream, frames: AsyncIterator[pb.EdgeFrame]) -> None:
        # An edge that is turned away before it has written sees a broken stream and not the reason.
        opening = await stream.read_open(frames)
        self._admit(stream)
        served = self._host.description
        opening.check_model(served.info, served.boundaries)
        await stream.send(wire.opened_frame(stream.name, served.info, self._wire_limits))
        await self._host.ready()
        self._host.send(Begin(stream.number, stream.tenant, opening))
        stream.begun = True
        reader = asyncio.create_task(stream.read_frames(frames, self._host.send))
        try:
            await stream.write_frames()
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            self._host.send(Finish(stream.number))

    def _admit(self, stream: Stream) -> None:
        if self._draining:
            raise CloudUnavailable("The service is going away.")
        if sum(open_stream.admitted for open_stream in self._streams.values()) >= self._limits.max_sessions:
            raise Overloaded(f"{self._limits.max_sessions} sessions are open, which is the most this cloud takes.")
        stream.admitted = True
