"""Solves in the front end: admitted, begun in the engine, carried back, and ended whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from updraft.config.strategies import StrategySettings
from updraft.errors import CloudUnavailable, UpdraftError
from updraft.tracing import Span
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud import wire
from updraft_cloud.admission.doors import Admission
from updraft_cloud.engine.host import EngineHost
from updraft_cloud.frames import Failed, Limits
from updraft_cloud.messages import Finish, Solve
from updraft_cloud.operations.metrics import CloudMetrics
from updraft_cloud.solve_frames import SolveReply
from updraft_cloud.solve_stream import SolveContext, SolveStream

__all__ = ["SolveCalls"]

log = logging.getLogger(__name__)


class SolveCalls:
    """The Solves that are open, by number.

    Args:
        settings: what one may ask for.
    """

    def __init__(
        self, host: EngineHost, settings: StrategySettings, metrics: CloudMetrics, *, write_timeout_s: float
    ) -> None:
        self._host = host
        self._settings = settings
        self._metrics = metrics
        self._write_timeout_s = write_timeout_s
        self._open: dict[int, SolveStream] = {}

    def __len__(self) -> int:
        return len(self._open)

    def answer(self, number: int, reply: SolveReply) -> None:
        """Hand on what a strategy answered; those that have gone hear nothing."""
        if (stream := self._open.get(number)) is not None:
            stream.answer(reply)

    def lost(self, failure: Failed) -> None:
        """The engine has died with all that it had begun."""
        for stream in self._open.values():
            if stream.begun:
                stream.answer(failure)

    async def serve(
        self,
        request: pb.SolveRequest,
        context: SolveContext,
        span: Span,
        *,
        number: int,
        tenant: str,
        limits: Limits,
        admission: Admission,
        draining: bool,
    ) -> None:
        """One call, to its end. What it fails with is its last event."""
        self._metrics.moved("up", request.ByteSize())
        failure: UpdraftError | None = None
        end = "gone"
        try:
            if draining:
                raise CloudUnavailable("The service is going away.")
            order = wire.read_solve(request, limits, self._settings)
            order.check_model(self._host.description.info)
            stream = SolveStream(context, number, order, self._metrics, write_timeout_s=self._write_timeout_s)
            with self._kept(stream):
                await self._work(stream, tenant, admission)
            end = stream.ended
        except UpdraftError as error:
            end, failure = error.code, error
            await self._refuse(context, error)
        finally:
            log.info("the solve ended: %s", end)
            span.note(end=end)
            span.end(failure)

    @contextlib.contextmanager
    def _kept(self, stream: SolveStream) -> Iterator[None]:
        self._open[stream.number] = stream
        try:
            yield
        finally:
            del self._open[stream.number]

    async def _work(self, stream: SolveStream, tenant: str, admission: Admission) -> None:
        order = stream.order
        tokens = len(order.prompt) + sum(len(given.tokens) for given in order.given)
        visit = admission.enter(tenant, tokens, stream.remaining_s)
        self._metrics.solves.began()
        try:
            await stream.seat(visit)
            await self._host.ready()
            self._host.send(Solve(stream.number, tenant, order))
            stream.begun = True
            try:
                await stream.write_events()
            finally:
                self._host.send(Finish(stream.number))
        except UpdraftError as error:
            stream.ended = error.code
            raise
        finally:
            visit.leave()
            self._metrics.solves.ended(order.strategy, stream.ended)

    async def _refuse(self, context: SolveContext, error: UpdraftError) -> None:
        with contextlib.suppress(TimeoutError):  # an edge that does not read: its call ends
            async with asyncio.timeout(self._write_timeout_s):
                await context.write(wire.solve_event(Failed.of(error)))
