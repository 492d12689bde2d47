"""The gRPC service: one bidirectional stream a session, in front of the engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any

import grpc.aio

from updraft import __version__
from updraft.config import AdmissionSettings, StrategySettings
from updraft.errors import CloudUnavailable, Overloaded, UpdraftError
from updraft.logging_setup import log_fields
from updraft.strategies import STRATEGIES
from updraft.tracing import NO_TRACER, Span, Tracer
from updraft.transport import abort_with, caller
from updraft.transport.bearer import SESSION_HEADER
from updraft.v1 import collaboration_pb2 as pb
from updraft.v1 import collaboration_pb2_grpc
from updraft_cloud import wire
from updraft_cloud.admission.doors import Admission, Visit
from updraft_cloud.engine.host import EngineHost
from updraft_cloud.frames import Cost, Failed, Limits, Open
from updraft_cloud.identity import SessionNames
from updraft_cloud.messages import Begin, Emitted, Finish, FromEngine, Measured
from updraft_cloud.operations.meter import SessionMeter
from updraft_cloud.operations.metrics import CloudMetrics
from updraft_cloud.operations.readiness import Readiness
from updraft_cloud.solve_calls import SolveCalls
from updraft_cloud.solve_frames import Noted, Solved
from updraft_cloud.solve_stream import SolveContext
from updraft_cloud.solving.verifiers import verifier_names
from updraft_cloud.stream import Context, Stream

__all__ = ["CollaborationService", "ServiceLimits"]

log = logging.getLogger(__name__)

# Sessions served for each of the engine's sequences: edges draft most of the time, and idle sessions give theirs away.
SESSIONS_A_SEQUENCE = 2
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """Bounds of the service; times in seconds."""

    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    max_sessions: int = 64
    write_timeout_s: float = 10.0
    idle_timeout_s: float = 300.0
    strategies: StrategySettings = field(default_factory=StrategySettings)


class CollaborationService(collaboration_pb2_grpc.CollaborationServicer):
    """Turns streams into sessions of the engine and back. It is the engine's `Listener`."""

    def __init__(
        self,
        host: EngineHost,
        limits: ServiceLimits,
        *,
        metrics: CloudMetrics | None = None,
        readiness: Readiness | None = None,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._host = host
        self._metrics = metrics or CloudMetrics()
        self._readiness = readiness or Readiness()
        self._tracer = tracer
        self._limits = limits
        self._streams: dict[int, Stream] = {}
        self._solves = SolveCalls(host, limits.strategies, self._metrics, write_timeout_s=limits.write_timeout_s)
        self._numbers = count(1)
        self._cost: Cost | None = None  # as the engine told it last
        self._names = SessionNames()
        self._draining = False

    @property
    def active(self) -> int:
        """Sessions and Solves whose calls are open."""
        return len(self._streams) + len(self._solves)

    @cached_property
    def admission(self) -> Admission:
        """The doors; they need to know what the engine serves."""
        places = SESSIONS_A_SEQUENCE * self._host.description.sequences
        return Admission(
            self._limits.admission,
            places=places,
            max_sessions=self._limits.max_sessions,
            on_refusal=self._metrics.shed,
            on_seat=self._metrics.seated,
        )

    def heard(self, message: FromEngine) -> None:
        if isinstance(message, Emitted):
            for number, reply in message.replies:
                if isinstance(reply, Noted | Solved):
                    self._solves.answer(number, reply)
                elif (stream := self._streams.get(number)) is not None:
                    stream.answer(reply)
                elif isinstance(reply, Failed):
                    self._solves.answer(number, reply)
        elif isinstance(message, Measured):
            self._cost = message.cost
            self._metrics.engine.measured(message)
            self._readiness.clear("engine")

    def lost(self) -> None:
        """The engine has died: its sessions are opened again by their edges, from the log that each of them has."""
        self._readiness.hold("engine")
        self._metrics.engine.restarted()
        away = Failed.of(CloudUnavailable("The engine has died and is being started again."))
        for stream in self._streams.values():
            if stream.begun:
                stream.answer(away)
        self._solves.lost(away)

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        await self._check_streams(context)
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
            strategies=list(STRATEGIES),
            verifiers=verifier_names(self._limits.strategies),
            max_samples=self._limits.strategies.max_samples,
            max_solve_tokens=self._limits.strategies.max_tokens,
        )

    async def Solve(self, request: pb.SolveRequest, context: SolveContext) -> None:
        await self._check_streams(context)
        who, metadata = caller(), context.invocation_metadata() or ()
        span = self._tracer.start("solve", caller=metadata, tenant=who.tenant)
        request_name, trace = _request_of(metadata), span.trace_id
        with log_fields(request=request_name, tenant=who.tenant, device=who.name, token=who.token, trace=trace):
            await self._solves.serve(
                request,
                context,
                span,
                number=next(self._numbers),
                tenant=who.tenant,
                limits=self._wire_limits,
                admission=self.admission,
                draining=self._draining,
            )

    async def Session(self, frames: AsyncIterator[pb.EdgeFrame], context: Context) -> None:
        await self._check_streams(context)
        who, metadata = caller(), context.invocation_metadata() or ()
        tenant = who.tenant
        stream = Stream(
            context,
            next(self._numbers),
            self._names.name(tenant, metadata),
            tenant,
            self._wire_limits,
            self._metrics,
            write_timeout_s=self._limits.write_timeout_s,
            idle_timeout_s=self._limits.idle_timeout_s,
        )
        self._streams[stream.number] = stream
        span = self._tracer.start("session", caller=metadata, session=stream.name, tenant=tenant)
        request, trace = _request_of(metadata), span.trace_id
        lines = log_fields(
            request=request, session=stream.name, tenant=tenant, device=who.name, token=who.token, trace=trace
        )
        try:
            with lines:
                await self._answer(stream, span, frames)
        finally:
            del self._streams[stream.number]

    async def _answer(self, stream: Stream, span: Span, frames: AsyncIterator[pb.EdgeFrame]) -> None:
        """Serve a session, and tell its edge what it fails with."""
        failure: UpdraftError | None = None
        try:
            await self._serve(stream, span, frames)
        except UpdraftError as error:
            stream.ended, failure = error.code, error
            with contextlib.suppress(UpdraftError):
                await stream.send(wire.reply_frame(Failed.of(error)))
        finally:
            log.info("the session ended: %s", stream.ended)
            span.note(end=stream.ended)
            span.end(failure)

    async def drain(self, seconds: float) -> None:
        """Take no new sessions, ask the open ones to go, and wait for them. A Solve that does not end in time is sent
        again by its edge, elsewhere if it can be."""
        self._draining = True
        for stream in self._streams.values():
            stream.notify(pb.Notice.KIND_DRAIN, "The service is going away.")
        deadline = asyncio.get_running_loop().time() + seconds
        while self.active and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)

    @property
    def _wire_limits(self) -> Limits:
        served = self._host.description
        settings = self._limits.admission
        return Limits(
            vocabulary=served.info.vocabulary,
            context=served.context,
            # A draft needs a row for the token before it and one for each of its own.
            max_draft=min(served.max_run - 1, settings.draft_tokens or served.max_run),
            width=served.info.width if served.boundaries else 0,
            prompt=settings.prompt_tokens,
            opening_bytes=settings.prompt_bytes,
            top_logprobs=settings.top_logprobs,
        )

    async def _serve(self, stream: Stream, span: Span, frames: AsyncIterator[pb.EdgeFrame]) -> None:
        # An edge that is turned away before it has written sees a broken stream and not the reason.
        opening = await stream.read_open(frames, self._limits.admission.open_timeout_s)
        if self._draining:
            raise CloudUnavailable("The service is going away.")
        served = self._host.description
        opening.check_model(served.info, served.boundaries)
        tokens = len(opening.prompt) + len(opening.generated)
        stream.visit = self.admission.enter(stream.tenant, tokens, stream.remaining_s)
        stream.meter = SessionMeter(self._metrics, opening, span)
        try:
            await stream.send(wire.opened_frame(stream.name, served.info, self._wire_limits, self._cost))
            await self._seat(stream, stream.visit)
            await self._converse(stream, opening, frames)
        except UpdraftError as error:
            stream.ended = error.code
            raise
        finally:
            stream.visit.leave()
            stream.meter.end(stream.ended)

    async def _seat(self, stream: Stream, visit: Visit) -> None:
        """Wait for the session's place. Raises Overloaded where none becomes free in time."""
        if (wait := visit.wait_s) is not None:
            message, wait_ms = "All places are taken; the session waits.", math.ceil(1000 * wait)
            await stream.send(wire.notice_frame(pb.Notice.KIND_SLOW_DOWN, message, wait_ms))
        await visit.seated()

    async def _converse(self, stream: Stream, opening: Open, frames: AsyncIterator[pb.EdgeFrame]) -> None:
        """Begin the session in the engine, and carry frames both ways until it ends."""
        await self._host.ready()
        self._host.send(Begin(stream.number, stream.tenant, opening))
        stream.begun = True
        reader = asyncio.create_task(stream.read_frames(frames, self._host.send))
        try:
            with stream.aging(self._limits.admission.session_age_s, self._limits.admission.age_grace_s):
                await stream.write_frames()
        finally:
            reader.cancel()
            self._host.send(Finish(stream.number))  # before anything that a second cancellation could break off
            await asyncio.gather(reader, return_exceptions=True)

    async def _check_streams(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Refuse a call by its status where even answering is too much."""
        try:
            self.admission.check_streams(self.active)
        except Overloaded as error:
            await abort_with(context, error)


def _request_of(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """What the edge calls the answer, for logs; empty if that is no plain name."""
    given = next((value for key, value in metadata if key == SESSION_HEADER), "")
    return (
        given if isinstance(given, str) and given.isascii() and given.isalnum() and len(given) <= _LONGEST_NAME else ""
    )
