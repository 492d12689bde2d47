"""The client's side: channels that notice a dead link soon and come back soon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
from grpc import aio

from updraft.errors import ConfigError
from updraft.transport.address import format_address, is_loopback, parse_address, read_authority, read_key_pair
from updraft.transport.listen import MAX_MESSAGE_BYTES
from updraft.transport.reload import Reloaded

__all__ = ["RenewedChannel", "channel_credentials", "channel_options", "drop_call", "open_channel"]

_FIRST_BACKOFF_MS: Final = 100
_LONGEST_BACKOFF_MS: Final = 300  # shorter than the patience of a session that opens its stream again
_CONNECT_TIMEOUT_MS: Final = 2000
_PING_ANSWER_MS: Final = 5000
_LONGEST_CALL_S: Final = 3600.0  # of a call on a channel that was renewed


def channel_options(
    host: str, *, server_name: str | None = None, keepalive_s: float = 20.0, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> list[tuple[str, str | int]]:
    """gRPC options of a channel to `host`: keepalive, reconnection from 0.1 s to at most 0.3 s apart, message size."""
    options: list[tuple[str, str | int]] = [
        ("grpc.keepalive_time_ms", round(keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", _PING_ANSWER_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # A ping that measures bandwidth would hold keepalive pings back for a minute, and cost bytes with every token.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.ping_timeout_ms", _PING_ANSWER_MS),
        ("grpc.initial_reconnect_backoff_ms", _FIRST_BACKOFF_MS),
        ("grpc.max_reconnect_backoff_ms", _LONGEST_BACKOFF_MS),
        # In spite of its name: how long one attempt to connect may take (20 s by default).
        ("grpc.min_reconnect_backoff_ms", _CONNECT_TIMEOUT_MS),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # Channels to one address do not share a connection, nor the backoff of a broken one.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if server_name is not None:
        options.append(("grpc.ssl_target_name_override", server_name))
    if is_loopback(host):
        options.append(("grpc.enable_http_proxy", 0))
    return options


def channel_credentials(
    *, ca: Path | None = None, cert: Path | None = None, key: Path | None = None
) -> grpc.ChannelCredentials:
    """TLS credentials; without `ca` gRPC's own list of public authorities counts.

    Raises:
        ConfigError: a file is missing or wrong, or only one of `cert` and `key` is given.
    """
    if (cert is None) != (key is None):
        raise ConfigError("A client certificate needs both cert and key.", remedy="Give both or neither.")
    authority = read_authority(ca) if ca is not None else None
    if cert is None or key is None:
        return grpc.ssl_channel_credentials(authority)
    chain, private = read_key_pair(cert, key)
    return grpc.ssl_channel_credentials(authority, private_key=private, certificate_chain=chain)


def open_channel(
    address: str,
    *,
    tls: bool = False,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    server_name: str | None = None,
    keepalive_s: float = 20.0,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> aio.Channel:
    """A channel to `host:port`; nothing is sent before the first call.

    Args:
        tls: speak TLS, checking the server against `ca`; `cert` and `key` are for mutual TLS.
        server_name: name expected in the server's certificate, where it is not the host.
        keepalive_s: time without traffic after which the peer is pinged, seconds, at least 1; it has 5 s to
            answer.

    Raises:
        ConfigError: the address or a file is wrong, or TLS files are given without `tls`.
    """
    host, port = parse_address(address)
    target = format_address(host, port)
    if not tls:
        if any(value is not None for value in (ca, cert, key, server_name)):
            raise ConfigError(
                f"TLS files or a server name are given for {address}, but TLS is off.",
                remedy="Turn TLS on for this link.",
            )
        options = channel_options(host, keepalive_s=keepalive_s, max_message_bytes=max_message_bytes)
        return aio.insecure_channel(target, options=options)
    options = channel_options(
        host, server_name=server_name, keepalive_s=keepalive_s, max_message_bytes=max_message_bytes
    )
    return aio.secure_channel(target, channel_credentials(ca=ca, cert=cert, key=key), options=options)


def drop_call(call: aio.Call) -> None:
    """End a call from this side, whatever its state.

    After a write that failed gRPC takes a call as done and cancels it no more. But its core still waits to hand out
    what the peer sent before the status, for which nobody asks: call, task and memory would outlive every answer.
    """
    if not call.cancel():
        core: Any = getattr(call, "_cython_call", None)  # there is no public way
        if core is not None:
            core.cancel("The call was dropped.")


class RenewedChannel:
    """A channel that is opened anew when its files change, such as a certificate that was renewed.

    Calls that run go on where they are. Files that cannot be used leave the channel as it is, and the log says so.

    Args:
        open_it: opens the channel from the files.
        files: those to watch.

    Raises:
        ConfigError: as `open_it` the first time.
    """

    def __init__(self, open_it: Callable[[], aio.Channel], files: Sequence[Path]) -> None:
        self._held = Reloaded("certificates of a link", files, open_it)
        self._leaving: list[aio.Channel] = []
        self._closing: asyncio.Task[None] | None = None

    def get(self) -> aio.Channel:
        """The channel for a call that begins now."""
        before = self._held.value
        if self._held.refresh():
            # Not closed with a grace: gRPC could not cut that short.
            self._leaving.append(before)
            asyncio.get_running_loop().call_later(_LONGEST_CALL_S, self._retire, before)
        return self._held.value

    async def close(self) -> None:
        """End every call at once."""
        leaving, self._leaving = self._leaving, []
        for channel in (*leaving, self._held.value):
            await channel.close(grace=None)

    def _retire(self, channel: aio.Channel) -> None:
        if channel in self._leaving:
            self._leaving.remove(channel)
            self._closing = asyncio.create_task(channel.close(grace=None))
