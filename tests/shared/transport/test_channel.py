"""Channels: addresses, TLS in both directions, and coming back after a loss."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from bench.relay import Relay
from tests.fakes.tiers import until
from tests.shared.transport.conftest import SERVICE, Certificates, Listening, echo_server
from updraft.errors import CloudUnavailable, ConfigError, RequestTooLarge
from updraft.transport import RenewedChannel, drop_call, error_from_rpc, open_channel

PATIENCE = 20.0


async def ask(channel: aio.Channel, message: bytes = b"hello") -> bytes:
    """One call with a deadline; failures as Updraft's errors."""
    try:
        answer: bytes = await channel.unary_unary(f"/{SERVICE}/UU", None, None)(message, timeout=PATIENCE)
    except grpc.RpcError as error:
        raise error_from_rpc(error) from error
    return answer


def secured(files: Certificates, *, mutual: bool = False) -> Listening:
    return Listening(tls_cert=files.server_cert, tls_key=files.server_key, client_ca=files.ca if mutual else None)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        ":7080",
        "localhost:",
        "localhost:0",
        "localhost:70800",
        "::1:7080",
        "a b:1",
        "dns:///x:1",
        "x:-1",
        "x:\u0667",
    ],
)
async def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ConfigError, match="host:port"):
        open_channel(address)


async def test_plain_text_over_loopback() -> None:
    async with echo_server(Listening()) as port, open_channel(f"127.0.0.1:{port}") as channel:
        assert await ask(channel) == b"hello"


async def test_a_proxy_in_the_environment_is_not_used_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with echo_server(Listening()) as port, open_channel(f"127.0.0.1:{port}") as channel:
        assert await ask(channel) == b"hello"


async def test_tls_with_a_private_authority(certificates: Certificates) -> None:
    async with (
        echo_server(secured(certificates)) as port,
        open_channel(f"localhost:{port}", tls=True, ca=certificates.ca) as channel,
    ):
        assert await ask(channel) == b"hello"


async def test_the_server_name_is_checked(certificates: Certificates) -> None:
    async with echo_server(secured(certificates)) as port:
        async with open_channel(f"127.0.0.1:{port}", tls=True, ca=certificates.ca) as channel:
            with pytest.raises(CloudUnavailable):
                await ask(channel)
        named = open_channel(f"127.0.0.1:{port}", tls=True, ca=certificates.ca, server_name="localhost")
        async with named as channel:
            assert await ask(channel) == b"hello"


async def test_a_server_of_another_authority_is_refused(certificates: Certificates) -> None:
    async with (
        echo_server(secured(certificates)) as port,
        open_channel(f"localhost:{port}", tls=True, ca=certificates.other_ca) as channel,
    ):
        with pytest.raises(CloudUnavailable):
            await ask(channel)


async def test_plain_text_to_a_tls_server_fails_clearly(certificates: Certificates) -> None:
    async with echo_server(secured(certificates)) as port, open_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(CloudUnavailable):
            await ask(channel)


async def test_tls_to_a_plain_server_fails_clearly(certificates: Certificates) -> None:
    async with (
        echo_server(Listening()) as port,
        open_channel(f"localhost:{port}", tls=True, ca=certificates.ca) as channel,
    ):
        with pytest.raises(CloudUnavailable):
            await ask(channel)


async def test_mutual_tls_asks_for_the_client_certificate(certificates: Certificates) -> None:
    files = certificates
    async with echo_server(secured(files, mutual=True)) as port:
        async with open_channel(f"localhost:{port}", tls=True, ca=files.ca) as channel:
            with pytest.raises(CloudUnavailable):
                await ask(channel)
        known = open_channel(f"localhost:{port}", tls=True, ca=files.ca, cert=files.client_cert, key=files.client_key)
        async with known as channel:
            assert await ask(channel) == b"hello"


async def test_tls_settings_that_contradict_each_other(certificates: Certificates) -> None:
    with pytest.raises(ConfigError, match="TLS is off"):
        open_channel("localhost:1", ca=certificates.ca)
    with pytest.raises(ConfigError, match="both cert and key"):
        open_channel("localhost:1", tls=True, cert=certificates.client_cert)
    with pytest.raises(ConfigError, match="missing"):
        open_channel("localhost:1", tls=True, ca=Path("missing.pem"))


async def test_a_channel_comes_back_when_the_server_does() -> None:
    async with echo_server(Listening()) as port:
        channel = open_channel(f"127.0.0.1:{port}")
        assert await ask(channel) == b"hello"
    with pytest.raises(CloudUnavailable):
        await ask(channel)
    async with echo_server(Listening(port=port)), channel:
        call = channel.unary_unary(f"/{SERVICE}/UU", None, None)
        assert await call(b"again", wait_for_ready=True, timeout=PATIENCE) == b"again"


async def test_a_certificate_that_is_renewed_is_shown_by_the_next_call(
    certificates: Certificates, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(certificates.other_ca.read_bytes())
    async with echo_server(secured(certificates)) as port:
        channel = RenewedChannel(lambda: open_channel(f"localhost:{port}", tls=True, ca=ca), [ca])
        with pytest.raises(CloudUnavailable):
            await ask(channel.get())
        ca.write_bytes(certificates.ca.read_bytes())
        first = channel.get()
        assert await ask(first) == b"hello"
        assert channel.get() is first
        method: Any = first.stream_stream(f"/{SERVICE}/SS", None, None)
        stream = method()
        await stream.write(b"one")
        assert await stream.read() == b"one"
        ca.write_bytes(b"half a certif")
        assert channel.get() is first
        ca.write_bytes(certificates.ca.read_bytes() + b"\n")
        second = channel.get()
        assert second is not first and await ask(second) == b"hello"
        # The old channel's call goes on, and ends with the whole.
        await stream.write(b"two")
        assert await stream.read() == b"two"
        await channel.close()
        assert await stream.code() is grpc.StatusCode.CANCELLED


async def test_a_channel_that_was_renewed_is_closed_in_the_end(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("updraft.transport.channel._LONGEST_CALL_S", 0.01)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(certificates.ca.read_bytes())
    channel = RenewedChannel(lambda: open_channel("localhost:1", tls=True, ca=ca), [ca])
    first = channel.get()
    ca.write_bytes(certificates.other_ca.read_bytes())
    assert channel.get() is not first
    async with asyncio.timeout(10):
        while first.get_state() is not grpc.ChannelConnectivity.SHUTDOWN:
            await asyncio.sleep(0.01)
    await channel.close()


async def test_a_channel_that_cannot_be_opened_is_an_error_at_once() -> None:
    with pytest.raises(ConfigError, match="missing"):
        RenewedChannel(lambda: open_channel("localhost:1", tls=True, ca=Path("missing.pem")), [Path("missing.pem")])


async def test_nothing_is_left_of_calls_that_end_before_they_are_read() -> None:
    """A write fails because the server has ended the call; what it sent before hides the status from gRPC."""

    async def ends_early(requests: Any, context: Any) -> None:
        for _ in range(3):
            await context.write(b"unread")
        await context.abort(grpc.StatusCode.UNAVAILABLE, "Gone.")

    handlers = {"SS": grpc.stream_stream_rpc_method_handler(ends_early)}
    server = aio.server(handlers=[grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        before = asyncio.all_tasks()
        for _ in range(5):
            method: Any = channel.stream_stream(f"/{SERVICE}/SS", None, None)
            call = method()
            async with asyncio.timeout(PATIENCE):
                with pytest.raises((aio.AioRpcError, asyncio.InvalidStateError)):
                    while True:
                        await call.write(b"more")
                        await asyncio.sleep(0.001)
            drop_call(call)
            drop_call(call)
        await until(lambda: not {task for task in asyncio.all_tasks() - before if "_AioCall" in repr(task)})
    await server.stop(None)


@pytest.mark.slow
async def test_a_silent_link_is_noticed_by_keepalive_and_pings_are_welcome() -> None:
    async with (
        echo_server(Listening()) as port,
        Relay("127.0.0.1", port) as relay,
        open_channel(relay.address, keepalive_s=1.0) as channel,
    ):
        call = channel.unary_unary(f"/{SERVICE}/UU", None, None)
        assert await call(b"hello", timeout=PATIENCE) == b"hello"
        await asyncio.sleep(3.5)  # three pings without a call
        assert await call(b"hello", timeout=PATIENCE) == b"hello"
        assert relay.connections == 1
        relay.stall()
        with pytest.raises(grpc.RpcError) as caught:
            await call(b"hello", timeout=3 * PATIENCE)
        assert isinstance(error_from_rpc(caught.value), CloudUnavailable)


async def test_messages_over_the_limit_are_refused() -> None:
    async with echo_server(Listening(), max_message_bytes=1000) as port, open_channel(f"127.0.0.1:{port}") as channel:
        assert await ask(channel, bytes(900)) == bytes(900)
        with pytest.raises(RequestTooLarge):
            await ask(channel, bytes(1100))
