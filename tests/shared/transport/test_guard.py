"""The guard: nothing but the health check answers without the token, and streams do not outlive theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from pydantic import SecretStr

from tests.shared.transport.conftest import SERVICE, Clock, Listening, echo_server
from updraft.errors import ConfigError, Unauthenticated
from updraft.transport import Authenticator, Guard, bearer_metadata, caller, error_from_rpc, open_channel
from updraft.transport.token_file import add_token, revoke

TOKEN = SecretStr("a-long-token")
NOW = datetime(2030, 1, 1, tzinfo=UTC)
Metadata = tuple[tuple[str, str], ...]


@pytest.fixture
async def guarded() -> AsyncIterator[aio.Channel]:
    server = echo_server(Listening(), interceptors=(Guard(Authenticator(token=TOKEN)),))
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


async def test_the_health_check_needs_no_token_and_what_could_be_held_open_does(guarded: aio.Channel) -> None:
    assert await guarded.unary_unary("/grpc.health.v1.Health/Check", None, None)(b"ok", timeout=20.0) == b"ok"
    for method in ("Watch", "List", "Check/", "check"):
        with pytest.raises(grpc.RpcError) as caught:
            await guarded.unary_unary(f"/grpc.health.v1.Health/{method}", None, None)(b"ok", timeout=20.0)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("token", ["", " ", "with\nbreak", "ünïcode", " padded"])
def test_tokens_that_cannot_travel(token: str) -> None:
    with pytest.raises(ConfigError, match="token"):
        Authenticator(token=SecretStr(token))


def test_no_token_is_no_metadata() -> None:
    assert bearer_metadata(None) == ()


async def test_a_refusal_is_logged_once_a_second_and_without_the_token(
    guarded: aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        with pytest.raises(grpc.RpcError):
            await call(guarded, "UU", bearer_metadata(SecretStr("guessed-token")))
    lines = [record.getMessage() for record in caplog.records if record.name == "updraft.transport.guard"]
    assert 1 <= len(lines) < 5
    assert f"/{SERVICE}/UU" in lines[0] and "ipv4:127.0.0.1" in lines[0] and "guessed" not in caplog.text


async def _who(_request: bytes, _context: Any) -> bytes:
    found = caller()
    return f"{found.tenant}/{found.name}/{found.token}".encode()


async def test_handlers_learn_who_calls(tmp_path: Path) -> None:
    entry, token = add_token(tmp_path / "tokens", tenant="acme", now=NOW, name="laptop")
    guard = Guard(Authenticator(tokens=tmp_path / "tokens"))
    server = echo_server(Listening(), unary=_who, interceptors=(guard,))
    async with server as port, open_channel(f"127.0.0.1:{port}") as channel:
        who = channel.unary_unary(f"/{SERVICE}/UU", None, None)
        assert await who(b"", metadata=bearer_metadata(SecretStr(token))) == f"acme/laptop/{entry.id}".encode()


async def test_with_nothing_configured_anyone_is_the_default_tenant() -> None:
    server = echo_server(Listening(), unary=_who, interceptors=(Guard(Authenticator()),))
    async with server as port, open_channel(f"127.0.0.1:{port}") as channel:
        assert await channel.unary_unary(f"/{SERVICE}/UU", None, None)(b"") == b"default//"


def streaming(channel: aio.Channel, metadata: Metadata) -> Any:
    """An open stream of the method SS, to be written and read."""
    method: Any = channel.stream_stream(f"/{SERVICE}/SS", None, None)
    return method(metadata=metadata)


@pytest.mark.parametrize("ending", ["expired", "revoked", "removed", "given away"])
async def test_a_stream_ends_with_its_token(ending: str, tmp_path: Path) -> None:
    file, clock = tmp_path / "tokens", Clock(NOW.timestamp())
    entry, token = add_token(file, tenant="acme", now=NOW, expires=NOW.replace(hour=1))
    guard = Guard(Authenticator(tokens=file, clock=clock), recheck_s=0.01)
    async with echo_server(Listening(), interceptors=(guard,)) as port, open_channel(f"127.0.0.1:{port}") as channel:
        stream = streaming(channel, bearer_metadata(SecretStr(token)))
        await stream.write(b"one")
        assert await stream.read() == b"one"
        match ending:
            case "expired":
                clock.now = NOW.replace(hour=1).timestamp()
            case "revoked":
                revoke(file, now=NOW, token_id=entry.id)
            case "removed":
                file.write_text("")
            case _:
                file.write_text(file.read_text().replace("acme", "evil"))
        async with asyncio.timeout(10):
            assert await stream.code() is grpc.StatusCode.UNAUTHENTICATED
        assert dict(await stream.trailing_metadata())["updraft-code"] == "unauthenticated"


async def test_other_streams_go_on(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    first, one = add_token(file, tenant="acme", now=NOW)
    _, two = add_token(file, tenant="acme", now=NOW)
    guard = Guard(Authenticator(tokens=file), recheck_s=0.01)
    async with echo_server(Listening(), interceptors=(guard,)) as port, open_channel(f"127.0.0.1:{port}") as channel:
        streams = [streaming(channel, bearer_metadata(SecretStr(token))) for token in (one, two)]
        for stream in streams:
            await stream.write(b"one")
            assert await stream.read() == b"one"
        revoke(file, now=NOW, token_id=first.id)
        async with asyncio.timeout(10):
            assert await streams[0].code() is grpc.StatusCode.UNAUTHENTICATED
        await streams[1].write(b"two")
        assert await streams[1].read() == b"two"
        await streams[1].done_writing()
        assert await streams[1].code() is grpc.StatusCode.OK


@pytest.mark.parametrize("failure", [TimeoutError("at /srv/models"), ValueError("at 0x7f00, /srv/models")])
async def test_a_handler_that_fails_tells_strangers_nothing_and_is_no_void_token(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow(_requests: Any, _context: Any) -> None:
        raise failure

    server = aio.server(interceptors=(Guard(Authenticator()),))
    handlers = {"SS": grpc.stream_stream_rpc_method_handler(slow)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stream = streaming(channel, ())
        assert await stream.code() is grpc.StatusCode.INTERNAL
        assert await stream.details() == "The call failed; the server's log says why."
    assert "/srv/models" in caplog.text
    await server.stop(None)
