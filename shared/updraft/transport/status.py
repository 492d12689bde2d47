"""The error tree as gRPC statuses, there and back.

A status carries the error's message as its details, and in trailing metadata `updraft-code`, `updraft-remedy-bin` and
`updraft-param-bin`, and `grpc-retry-pushback-ms` where it says when to come again. gRPC's own failures carry none of
these and are mapped by their status.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NoReturn, cast

import grpc
from grpc import aio

from updraft.errors import (
    Cancelled,
    CloudUnavailable,
    LateReply,
    Overloaded,
    ProtocolViolation,
    RequestTooLarge,
    Unauthenticated,
    UpdraftError,
    from_code,
)

__all__ = ["abort_with", "error_from_rpc"]

_CODE: Final = "updraft-code"
_REMEDY: Final = "updraft-remedy-bin"
_PARAM: Final = "updraft-param-bin"
_PUSHBACK: Final = "grpc-retry-pushback-ms"  # gRPC's own name for when to come again

# gRPC drops responses whose headers exceed 8 KiB; details are percent-encoded, up to three bytes for one.
_LONGEST_MESSAGE: Final = 1500
_LONGEST_EXTRA: Final = 750

_BY_STATUS: Final[dict[grpc.StatusCode, type[UpdraftError]]] = {
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.DEADLINE_EXCEEDED: LateReply,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Unauthenticated,
    grpc.StatusCode.UNIMPLEMENTED: ProtocolViolation,
    grpc.StatusCode.INVALID_ARGUMENT: ProtocolViolation,
    grpc.StatusCode.OUT_OF_RANGE: ProtocolViolation,
}


async def abort_with(context: aio.ServicerContext[Any, Any], error: UpdraftError) -> NoReturn:
    """End a call with the status of `error`. Raises gRPC's own exception, which the handler must let pass."""
    extra: list[tuple[str, str | bytes]] = [(_CODE, error.code), (_REMEDY, _clipped(error.remedy, _LONGEST_EXTRA))]
    if error.param is not None:
        extra.append((_PARAM, _clipped(error.param, _LONGEST_EXTRA)))
    if error.retry_after_s > 0:
        extra.append((_PUSHBACK, str(round(error.retry_after_s * 1000))))
    details = _clipped(error.message, _LONGEST_MESSAGE).decode()
    await context.abort(grpc.StatusCode[error.grpc_status], details, tuple(extra))


def error_from_rpc(error: grpc.RpcError) -> UpdraftError:
    """The error that a failed call stands for: the peer's own if it sent one, else the nearest to gRPC's status.

    A broken connection, in whatever words gRPC reports it, is a retryable CloudUnavailable.
    """
    details = error.details() or ""
    metadata = dict(cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ()))
    code = metadata.get(_CODE)
    if code is not None:
        rebuilt = from_code(_text(code), details, _text(metadata.get(_REMEDY, b"")))
        rebuilt.param = _text(metadata[_PARAM]) if _PARAM in metadata else None
        rebuilt.retry_after_s = _seconds(_text(metadata.get(_PUSHBACK, "")))
        return rebuilt
    status = error.code()
    # gRPC reports its own size limits with the status of an overload, which trying again would not cure.
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in details:
        return RequestTooLarge(details)
    return _BY_STATUS.get(status, CloudUnavailable)(f"{status.name}: {details}")


def _seconds(milliseconds: str) -> float:
    """A pause as it travels; 0 for none, and for what is no number of milliseconds."""
    return int(milliseconds) / 1000 if milliseconds.isascii() and milliseconds.isdigit() else 0.0


def _clipped(text: str, longest: int) -> bytes:
    """At most `longest` bytes of UTF-8, cut between characters."""
    return text.encode("utf-8", "replace")[:longest].decode("utf-8", "ignore").encode()


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
