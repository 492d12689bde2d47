"""One Solve's call: its events, timed, and signs of life while the engine works."""

from __future__ import annotations

import asyncio
import math
from typing import Final

import grpc.aio

from updraft.errors import LateReply
from updraft.failpoints import reach_async
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud import wire
from updraft_cloud.admission.doors import Visit
from updraft_cloud.operations.metrics import CloudMetrics
from updraft_cloud.solve_frames import Noted, Solved, SolveOrder, SolveReply

__all__ = ["SolveContext", "SolveStream"]

SolveContext = grpc.aio.ServicerContext[pb.SolveRequest, pb.SolveEvent]

WORKING_S: Final = 2.0
"""An edge hears so often at least that its answer is being worked on."""


class SolveStream:
    """A Solve in the front end's event loop.

    Args:
        number: of the work, for the engine.
        write_timeout_s: longest wait for an edge that does not read.

    Attributes:
        begun: the engine knows it.
        ended: how it ended: why the strategy stopped, an error's code, else `gone`.
    """

    def __init__(
        self, context: SolveContext, number: int, order: SolveOrder, metrics: CloudMetrics, *, write_timeout_s: float
    ) -> None:
        self.number = number
        self.order = order
        self.begun = False
        self.ended = "gone"
        self._context = context
        self._metrics = metrics
        self._write_timeout_s = write_timeout_s
        self._visit: Visit | None = None
        self._drawn = 0
        self._outgoing: asyncio.Queue[SolveReply] = asyncio.Queue()

    def answer(self, reply: SolveReply) -> None:
        """Queue what the strategy answered."""
        if isinstance(reply, Noted | Solved):
            self._spend(reply.tokens if isinstance(reply, Noted) else reply.spent.tokens)
        if not isinstance(reply, Noted) or self.order.progress:
            self._outgoing.put_nowait(reply)

    async def seat(self, visit: Visit) -> None:
        """Wait for the place. Raises Overloaded where none becomes free in time."""
        self._visit = visit
        if (wait := visit.wait_s) is not None:
            message, wait_ms = "All places are taken; the answer waits.", math.ceil(1000 * wait)
            await self.send(wire.solve_notice(pb.Notice.KIND_SLOW_DOWN, message, wait_ms))
        await visit.seated()

    async def write_events(self) -> None:
        """Send what is queued up to the answer or the error, and a sign of life where nothing is."""
        while True:
            try:
                async with asyncio.timeout(WORKING_S):
                    reply = await self._outgoing.get()
            except TimeoutError:
                await self.send(wire.working_event())
                continue
            if isinstance(reply, Noted):
                await self.send(wire.solve_event(reply))
                continue
            if isinstance(reply, Solved):
                self._metrics.solves.solved(reply)
                self.ended = reply.ended
            else:
                self.ended = reply.code
            await self.send(wire.solve_event(reply))
            return

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the edge stops waiting, if it said so."""
        left: float | None = self._context.time_remaining()
        return left

    async def send(self, event: pb.SolveEvent) -> None:
        """Write an event now. Raises LateReply if the edge does not read."""
        self._metrics.moved("down", event.ByteSize())
        if event.HasField("notice"):
            self._metrics.notice(event.notice.kind)
        if await reach_async("front.before_write"):
            return
        try:  # not wait_for, which loses a cancellation that comes with the result
            async with asyncio.timeout(self._write_timeout_s):
                await self._context.write(event)
        except TimeoutError as error:
            raise LateReply(f"The edge did not read for {self._write_timeout_s:g} s.") from error

    def _spend(self, drawn: int) -> None:
        """Tokens drawn since the last time, on the tenant's account."""
        if self._visit is not None and drawn > self._drawn:
            self._visit.spend(drawn - self._drawn)
            self._drawn = drawn
