"""The bearer token: nothing but the health service answers without it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio
from pydantic import SecretStr

from tests.shared.transport.conftest import SERVICE, Listening, echo_server
from updraft.errors import ConfigError, Unauthenticated
from updraft.transport import BearerInterceptor, bearer_metadata, error_from_rpc, open_channel

TOKEN = SecretStr("a-long-token")
Metadata = tuple[tuple[str, str], ...]


@pytest.fixture
async def guarded() -> AsyncIterator[aio.Channel]:
    server = echo_server(Listening(), interceptors=(BearerInterceptor(TOKEN),))
    async with server as port, open_channel(f"127.0.0.1:{port}") as channel:
        yield channel


async def call(channel: aio.Channel, kind: str, metadata: Metadata) -> bytes:
    """Call the method of one of the four kinds with one message."""
    path = f"/{SERVICE}/{kind}"
    authorised = metadata == bearer_metadata(TOKEN)
    options: dict[str, Any] = {"metadata": metadata, "timeout": 20.0}

    async def messages() -> AsyncIterator[bytes]:
        # gRPC replaces the server's status by INTERNAL if the server refuses the stream during a write.
        if authorised:
            yield b"hello"

    if kind == "UU":
        return bytes(await channel.unary_unary(path, None, None)(b"hello", **options))
    if kind == "SU":
        return bytes(await channel.stream_unary(path, None, None)(messages(), **options))
    answers: AsyncIterable[bytes]
    if kind == "US":
        answers = channel.unary_stream(path, None, None)(b"hello", **options)
    else:
        answers = channel.stream_stream(path, None, None)(messages(), **options)
    return b"".join([answer async for answer in answers])


@pytest.mark.parametrize("kind", ["UU", "US", "SU", "SS"])
async def test_the_token_opens_methods_of_every_kind(guarded: aio.Channel, kind: str) -> None:
    assert await call(guarded, kind, bearer_metadata(TOKEN)) == b"hello"


@pytest.mark.parametrize("kind", ["UU", "US", "SU", "SS"])
@pytest.mark.parametrize(
    "metadata",
    [
        (),
        bearer_metadata(SecretStr("another-token")),
        bearer_metadata(SecretStr("a-long-toke")),
        (("authorization", "a-long-token"),),
        (("authorization", "Basic a-long-token"),),
        (("authorization", "Bearer"),),
        (("x-authorization", "Bearer a-long-token"),),
        (("authorization", "Bearer wrong"), ("authorization", "Bearer a-long-token")),
    ],
)
async def test_without_it_every_kind_is_refused(guarded: aio.Channel, kind: str, metadata: Metadata) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        await call(guarded, kind, metadata)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert isinstance(error_from_rpc(caught.value), Unauthenticated)


async def test_a_method_that_does_not_exist_is_refused_as_well(guarded: aio.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        await call(guarded, "Missing", ())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError) as caught:
        await call(guarded, "Missing", bearer_metadata(TOKEN))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_needs_no_token(guarded: aio.Channel) -> None:
    assert await guarded.unary_unary("/grpc.health.v1.Health/Check", None, None)(b"ok", timeout=20.0) == b"ok"


@pytest.mark.parametrize("token", ["", " ", "with\nbreak", "ünïcode", " padded"])
def test_tokens_that_cannot_travel(token: str) -> None:
    with pytest.raises(ConfigError, match="token"):
        BearerInterceptor(SecretStr(token))


def test_no_token_is_no_metadata() -> None:
    assert bearer_metadata(None) == ()
