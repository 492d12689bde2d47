"""The guard in front of every handler of a gRPC server: no call without credentials, and none that outlives them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, cast

import grpc
from grpc import aio

from updraft.errors import Unauthenticated
from updraft.transport.identity import Authenticator, Bearer, Identity, enter_call
from updraft.transport.status import abort_with

__all__ = ["OPEN_METHOD", "Guard"]

log = logging.getLogger(__name__)

# Not the whole health service: its Watch is a stream that strangers could hold open without end.
OPEN_METHOD: Final = "/grpc.health.v1.Health/Check"
_KINDS: Final = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")

if TYPE_CHECKING:  # gRPC's own classes are generic in their type stubs only
    Handler = grpc.RpcMethodHandler[Any, Any]
    ServerInterceptor = aio.ServerInterceptor[Any, Any]
else:
    Handler = grpc.RpcMethodHandler
    ServerInterceptor = aio.ServerInterceptor

Context = aio.ServicerContext
Behaviour = Callable[[Any, Any], Any]


class Guard(ServerInterceptor):
    """Refuses every call without credentials, of whatever kind and method, except the health check.

    A wrong token is refused before any message is read. Who calls is known to the handler as `caller()`.
    Streams whose credentials expire or are revoked end with the status of Unauthenticated. Exceptions that a handler
    did not mean for the client stay in the log.

    Args:
        authenticator: checks the credentials.
        recheck_s: longest time that a stream outlives its credentials, seconds.
    """

    def __init__(self, authenticator: Authenticator, *, recheck_s: float = 1.0) -> None:
        self._authenticator = authenticator
        self._recheck_s = recheck_s
        self._open: dict[asyncio.Timeout, Identity] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._logged = -1.0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        method = handler_call_details.method
        if method == OPEN_METHOD:
            return await continuation(handler_call_details)
        try:
            bearer = self._authenticator.bearer(handler_call_details.invocation_metadata)
        except Unauthenticated as error:
            return self._refusal(method, error)
        handler: Handler | None = await continuation(handler_call_details)
        # None is a method that does not exist, which gRPC answers itself.
        return self._guarded(handler, bearer, method) if handler is not None else cast("Handler", None)

    def _refusal(self, method: str, error: Unauthenticated) -> Handler:
        async def refuse(_requests: AsyncIterator[bytes], context: Context[Any, Any]) -> None:
            await self._abort(context, method, error)

        # A stream-stream handler can answer a call of any of the four kinds, and reads no message for it.
        return grpc.stream_stream_rpc_method_handler(refuse)

    def _guarded(self, handler: Handler, bearer: Bearer | None, method: str) -> Handler:
        """The same handler behind the rest of the checks, which need the connection's certificate."""
        kind = next(kind for kind in _KINDS if getattr(handler, kind) is not None)
        run = _as_coroutine(getattr(handler, kind))
        streams = bool(handler.request_streaming or handler.response_streaming)

        async def guarded(request: Any, context: Context[Any, Any]) -> Any:
            try:
                identity = self._authenticator.identify(bearer, context.auth_context())
            except Unauthenticated as error:
                await self._abort(context, method, error)
            enter_call(identity)
            try:
                if streams:
                    return await self._while_valid(identity, method, run, request, context)
                return await run(request, context)
            except aio.BaseError:  # gRPC's own: the handler has aborted the call, or the client is gone
                raise
            except Exception:
                # gRPC would send the exception's own words, which may tell of paths and memory.
                log.exception("%s failed", method)
                await context.abort(grpc.StatusCode.INTERNAL, "The call failed; the server's log says why.")

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        guarded_handler: Handler = make(guarded, handler.request_deserializer, handler.response_serializer)
        return guarded_handler

    async def _while_valid(
        self, identity: Identity, method: str, run: Behaviour, request: Any, context: Context[Any, Any]
    ) -> Any:
        """Run a stream's handler; it is cancelled, as if its client had gone, once its credentials are void."""
        limit = asyncio.timeout(None)
        self._open[limit] = identity
        self._watch()
        try:
            async with limit:
                return await run(request, context)
        except TimeoutError:
            if not limit.expired():
                raise
        finally:
            self._open.pop(limit, None)
        await self._abort(context, method, Unauthenticated("The token or certificate of this call is void by now."))

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._recheck_s, self._sweep)

    def _sweep(self) -> None:
        """End the streams whose credentials no longer hold."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        for limit, identity in list(self._open.items()):
            try:
                self._authenticator.check(identity)
            except Unauthenticated as error:
                log.info("a stream of tenant %s ends: %s", identity.tenant, error.message)
                del self._open[limit]
                limit.reschedule(now)
        if self._open:
            self._watch()

    async def _abort(self, context: Context[Any, Any], method: str, error: Unauthenticated) -> None:
        # One line a second at most: strangers must not be able to fill a disk.
        now = asyncio.get_running_loop().time()
        if now >= self._logged + 1.0:
            self._logged = now
            log.warning("refused %s from %s: %s", method[:128], context.peer(), error.message)
        await abort_with(context, error)


def _as_coroutine(behaviour: Behaviour) -> Behaviour:
    """A handler as a coroutine: one that yields its answers writes them instead."""
    if inspect.isasyncgenfunction(behaviour):

        async def written(request: Any, context: Context[Any, Any]) -> None:
            async for answer in behaviour(request, context):
                await context.write(answer)

        return written
    if not inspect.iscoroutinefunction(behaviour):
        raise TypeError(f"{behaviour!r} is no asynchronous handler")
    return behaviour
