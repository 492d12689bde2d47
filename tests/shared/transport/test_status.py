"""Errors cross gRPC and come out as themselves."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from tests.shared.transport.conftest import SERVICE, Listening, echo_server
from updraft.errors import (
    CloudUnavailable,
    InvalidRequest,
    LateReply,
    LinkError,
    Overloaded,
    ProtocolViolation,
    Unauthenticated,
    UpdraftError,
    error_classes,
)
from updraft.transport import abort_with, error_from_rpc, open_channel


async def carried(error: UpdraftError) -> tuple[grpc.StatusCode, UpdraftError]:
    """Send an error through a server and back."""

    async def fail(_request: bytes, context: Any) -> bytes:
        await abort_with(context, error)

    async with echo_server(Listening(), unary=fail) as port, open_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            await channel.unary_unary(f"/{SERVICE}/UU", None, None)(b"", timeout=20.0)
    return caught.value.code(), error_from_rpc(caught.value)


@pytest.mark.parametrize("cls", error_classes().values(), ids=lambda cls: str(cls.code))
async def test_every_class_of_the_tree_survives(cls: type[UpdraftError]) -> None:
    status, rebuilt = await carried(cls("Größe 9 is over 8.", remedy="Nimm 8 — oder weniger.", param="size"))
    assert status.name == cls.grpc_status
    assert type(rebuilt) is cls
    assert (rebuilt.message, rebuilt.remedy, rebuilt.param) == ("Größe 9 is over 8.", "Nimm 8 — oder weniger.", "size")


async def test_an_error_without_param_has_none_afterwards() -> None:
    _, rebuilt = await carried(Overloaded("busy"))
    assert rebuilt.param is None
    assert rebuilt.remedy == Overloaded.default_remedy


async def test_when_to_come_again_travels() -> None:
    error = Overloaded("busy")
    assert (await carried(error))[1].retry_after_s == 0
    error.retry_after_s = 1.25
    assert (await carried(error))[1].retry_after_s == 1.25


@pytest.mark.parametrize("text", ["x" * 50_000, "€" * 50_000, "lone \ud800 surrogate", "line\nbreak\x00\x7f"])
async def test_text_that_headers_cannot_carry_never_loses_the_error(text: str) -> None:
    _, rebuilt = await carried(InvalidRequest(text, remedy=text, param=text))
    assert type(rebuilt) is InvalidRequest
    assert rebuilt.message[:4] == text[:4]
    assert rebuilt.remedy[:4] == text[:4]


class Failed(grpc.RpcError):
    """A failed call as gRPC itself reports it."""

    def __init__(self, status: grpc.StatusCode, details: str | None) -> None:
        super().__init__(details)
        self._status, self._details = status, details

    def code(self) -> grpc.StatusCode:
        return self._status

    def details(self) -> Any:
        return self._details

    def trailing_metadata(self) -> Any:
        return None


@pytest.mark.parametrize("said", ["", "-5", "1.5", "soon", "\u0663"])
def test_a_pushback_that_is_no_number_is_none(said: str) -> None:
    class Pushed(Failed):
        def trailing_metadata(self) -> Any:
            return (("updraft-code", "overloaded"), ("grpc-retry-pushback-ms", said))

    assert error_from_rpc(Pushed(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")).retry_after_s == 0


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (grpc.StatusCode.UNAVAILABLE, CloudUnavailable),
        (grpc.StatusCode.INTERNAL, CloudUnavailable),
        (grpc.StatusCode.UNKNOWN, CloudUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, LateReply),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.UNAUTHENTICATED, Unauthenticated),
        (grpc.StatusCode.UNIMPLEMENTED, ProtocolViolation),
    ],
)
def test_failures_of_grpc_itself(status: grpc.StatusCode, cls: type[UpdraftError]) -> None:
    error = error_from_rpc(Failed(status, "what happened"))
    assert type(error) is cls
    assert "what happened" in error.message


def test_every_status_becomes_some_error_of_the_tree() -> None:
    for status in grpc.StatusCode:
        assert error_from_rpc(Failed(status, None)).message.startswith(status.name)


async def test_nobody_listening_is_a_retryable_link_error() -> None:
    async with echo_server(Listening()) as port:
        pass
    async with open_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            await channel.unary_unary(f"/{SERVICE}/UU", None, None)(b"", timeout=20.0)
    error = error_from_rpc(caught.value)
    assert isinstance(error, LinkError)
    assert error.retryable
