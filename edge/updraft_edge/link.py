"""The link to the cloud: one channel, how often it is tried, and a circuit breaker that probes in the background."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc.aio

from updraft.config import CloudLinkSettings
from updraft.errors import (
    Cancelled,
    CloudUnavailable,
    LateReply,
    LinkError,
    Overloaded,
    ProtocolViolation,
    UpdraftError,
)
from updraft.transport import RenewedChannel, bearer_metadata, error_from_rpc, open_channel
from updraft.transport.bearer import SESSION_HEADER
from updraft.v1 import collaboration_pb2 as pb
from updraft.v1.collaboration_pb2_grpc import CollaborationStub
from updraft_edge.breaker import BreakerState, ProbingBreaker
from updraft_edge.rules.guard import Rules
from updraft_edge.stopping.price import CloudPrice

__all__ = ["CloudLink", "lost"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_LONGEST_REST_S = 300.0  # whatever the cloud says


class CloudLink:
    """The way to one cloud address. Nothing is opened before the first call.

    Args:
        rules: what may leave the device; every session has its guard from them.
        on_state: told the breaker's state whenever it may have changed.

    Attributes:
        on_price: told what the cloud's work costs whenever the cloud says it.
    """

    def __init__(
        self, settings: CloudLinkSettings, rules: Rules, *, on_state: Callable[[BreakerState], None] | None = None
    ) -> None:
        self.settings = settings
        self.rules = rules
        self.on_price: Callable[[CloudPrice], None] = lambda price: None
        self.breaker = ProbingBreaker(settings.breaker_failures, settings.probe_interval_s, self._probe, on_state)
        self.cloud: pb.DescribeResponse | None = None
        self._channel: RenewedChannel | None = None
        self._greeting: asyncio.Task[None] | None = None
        self._rest_until = 0.0

    def greet(self) -> None:
        """Ask the cloud in the background what it serves, so that the first answer finds an open connection."""
        if self.settings.address is not None and self._greeting is None:
            self._greeting = asyncio.create_task(self._greet())

    async def describe(self) -> pb.DescribeResponse:
        """Ask the cloud what it serves. Raises LinkError or Unauthenticated."""
        try:
            self.cloud = await self.stub().Describe(
                pb.DescribeRequest(), timeout=self.settings.connect_timeout_s, metadata=self.metadata()
            )
        except grpc.aio.AioRpcError as error:
            raise lost(error) from error
        return self.cloud

    def stub(self) -> Any:
        if self._channel is None:
            files = (self.settings.ca, self.settings.cert, self.settings.key)
            self._channel = RenewedChannel(self._open, [file for file in files if file is not None])
        return CollaborationStub(self._channel.get())

    def metadata(self, session: str | None = None) -> Any:
        """Of a call; `session` names the session that it belongs to."""
        named = () if session is None else ((SESSION_HEADER, session),)
        return (*bearer_metadata(self.settings.token), *named)

    @property
    def rest_s(self) -> float:
        """Seconds for which the cloud wants no new session of this device; 0 for none."""
        return max(0.0, self._rest_until - time.monotonic())

    def heed(self, error: UpdraftError) -> None:
        """Open no session before the time that the cloud names, and some time later: not all edges come at once."""
        if error.retry_after_s > 0:
            rest = min(error.retry_after_s, _LONGEST_REST_S) * random.uniform(1.0, 1.25)
            self._rest_until = max(self._rest_until, time.monotonic() + rest)

    async def rested(self) -> None:
        """Wait until the cloud takes sessions again. Raises Overloaded where that is more than the settings have
        patience for."""
        if (rest := self.rest_s) > self.settings.overload_wait_s:
            raise Overloaded(f"The cloud is overloaded and wants no session for {rest:.0f} s.")
        if rest:
            await asyncio.sleep(rest)

    async def retried(self, attempt: Callable[[], Awaitable[T]], abandon: Callable[[], None], *, since: float) -> T:
        """Run an attempt, and a few times more where the link fails it.

        Where the cloud says when to come again, that is waited for, as far as the settings have patience.

        Args:
            abandon: called after each failure: nothing of the attempt is of use any more.
            since: when the caller began to wait (`time.perf_counter`).
        """
        for attempts_left in range(self.settings.reconnect_attempts, -1, -1):
            try:
                result = await attempt()
            except (LinkError, Overloaded) as error:
                abandon()
                # Frames that do not fit may be the link's fault: a session from the log finds out.
                if not error.retryable and not isinstance(error, ProtocolViolation):
                    raise
                self.heed(error)
                patience = self.settings.overload_wait_s - (time.perf_counter() - since)
                if not attempts_left or isinstance(error, LateReply) or self.rest_s > max(0.0, patience):
                    if not isinstance(error, Overloaded):  # which is no sign of death
                        self.breaker.failure()
                    raise
                tried = self.settings.reconnect_attempts - attempts_left
                await asyncio.sleep(max(self.settings.pause_s(tried), self.rest_s))
                continue
            self.breaker.success()
            return result
        raise CloudUnavailable("The cloud cannot be reached.")

    async def close(self) -> None:
        await self.breaker.close()
        if self._greeting is not None:
            self._greeting.cancel()
            await asyncio.gather(self._greeting, return_exceptions=True)
            self._greeting = None
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    def _open(self) -> grpc.aio.Channel:
        settings = self.settings
        if settings.address is None:
            raise CloudUnavailable("No cloud address is configured.", remedy="Set edge.cloud.address.")
        return open_channel(
            settings.address,
            tls=settings.tls,
            ca=settings.ca,
            cert=settings.cert,
            key=settings.key,
            server_name=settings.server_name,
            keepalive_s=settings.keepalive_s,
        )

    async def _greet(self) -> None:
        try:
            cloud = await self.describe()
            log.info("the cloud at %s serves %s", self.settings.address, cloud.model)
        except UpdraftError as error:
            log.warning("the cloud at %s does not answer yet: %s", self.settings.address, error.message)

    async def _probe(self) -> None:
        await self.describe()
        log.info("the cloud answers again")


def lost(error: grpc.aio.AioRpcError) -> UpdraftError:
    """Why a call ended. Whoever asked is still there, so one that a cloud cancelled when it went is a lost one."""
    reason = error_from_rpc(error)
    return CloudUnavailable(reason.message) if isinstance(reason, Cancelled) else reason
