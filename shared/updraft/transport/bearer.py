"""Bearer tokens in call metadata."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc import aio
from pydantic import SecretStr

from updraft.errors import ConfigError, Unauthenticated
from updraft.transport.status import abort_with

__all__ = ["BearerInterceptor", "bearer_metadata"]

_HEADER: Final = "authorization"
_SCHEME: Final = "Bearer "
_OPEN_SERVICE: Final = "/grpc.health.v1.Health/"

if TYPE_CHECKING:  # gRPC's own classes are generic in their type stubs only
    Handler = grpc.RpcMethodHandler[Any, Any]
    ServerInterceptor = aio.ServerInterceptor[Any, Any]
else:
    Handler = grpc.RpcMethodHandler
    ServerInterceptor = aio.ServerInterceptor


def bearer_metadata(token: SecretStr | None) -> tuple[tuple[str, str], ...]:
    """Call metadata that carries the token; empty without one."""
    return ((_HEADER, _SCHEME + token.get_secret_value()),) if token is not None else ()


class BearerInterceptor(ServerInterceptor):
    """Refuses every call without the token, of whatever method, except the health service's.

    Raises:
        ConfigError: the token is empty or cannot travel in a header.
    """

    def __init__(self, token: SecretStr) -> None:
        secret = token.get_secret_value()
        if not secret or not secret.isascii() or not secret.isprintable() or secret != secret.strip():
            raise ConfigError(
                "The bearer token is empty or has characters that a header cannot carry.",
                remedy="Use a long random token of printable ASCII, such as `openssl rand -hex 32` gives.",
            )
        self._expected = (_SCHEME + secret).encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        if handler_call_details.method.startswith(_OPEN_SERVICE) or self._allows(handler_call_details):
            return await continuation(handler_call_details)
        return _REFUSAL

    def _allows(self, details: grpc.HandlerCallDetails) -> bool:
        given = [value for key, value in details.invocation_metadata if key == _HEADER]
        return len(given) == 1 and hmac.compare_digest(_as_bytes(given[0]), self._expected)


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")


async def _refuse(_requests: AsyncIterator[bytes], context: aio.ServicerContext[Any, Any]) -> None:
    await abort_with(context, Unauthenticated("The call carries no valid bearer token."))


# One handler refuses all: a stream-stream handler can answer a call of any of the four kinds.
_REFUSAL: Final[Handler] = grpc.stream_stream_rpc_method_handler(_refuse)
