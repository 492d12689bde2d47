"""The server's side: where it may listen, and with which credentials and limits."""

from __future__ import annotations

import errno
import logging
import socket
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
from grpc import aio
from pydantic import SecretStr

from updraft.errors import AddressInUse, ConfigError, InsecureListen
from updraft.transport.address import format_address, is_loopback, read_authority, read_key_pair
from updraft.transport.reload import Reloaded

__all__ = [
    "MAX_MESSAGE_BYTES",
    "Listen",
    "add_port",
    "check_port_free",
    "is_loopback",
    "require_safe_listen",
    "server_credentials",
    "server_options",
]

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
# Half of the shortest keepalive that the settings allow: a ping that comes early must not count as abuse.
_SHORTEST_PING_INTERVAL_MS: Final = 500
# Beyond this machine a shorter token could be guessed.
_SHORTEST_TOKEN: Final = 16


class Listen(Protocol):
    """Where a server listens and how it is protected; `updraft.config.ListenSettings` is one."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def tls_cert(self) -> Path | None: ...
    @property
    def tls_key(self) -> Path | None: ...
    @property
    def client_ca(self) -> Path | None: ...
    @property
    def token(self) -> SecretStr | None: ...


def require_safe_listen(listen: Listen, insecure: bool, *, tokens: Path | None = None) -> None:
    """Refuse to serve other machines without both TLS and a token, unless the user said `insecure`.

    A client certificate does not take the token's place: it is the device's, and a device can be stolen whole.

    Args:
        tokens: file of tokens, where there is one.

    Raises:
        InsecureListen: the host is not loopback and one of them is missing, or the token is short.
    """
    if is_loopback(listen.host):
        return
    missing = []
    if listen.tls_cert is None or listen.tls_key is None:
        missing.append("TLS")
    token = listen.token.get_secret_value() if listen.token is not None else ""
    if token and len(token) < _SHORTEST_TOKEN:
        missing.append(f"a token of at least {_SHORTEST_TOKEN} characters")
    elif tokens is None and not token:
        missing.append("a token")
    if not missing:
        return
    where, without = format_address(listen.host, listen.port), " and ".join(missing)
    if not insecure:
        raise InsecureListen(f"Listening on {where} without {without} would let anyone in.")
    log.warning("INSECURE: %s is open to other machines without %s; anyone who reaches it is let in", where, without)


def check_port_free(host: str, port: int) -> None:
    """Fail early and clearly where a server could not bind; port 0 is always free.

    Raises:
        AddressInUse: another program holds the port.
        ConfigError: this machine has no such address, or the port needs rights that the user lacks.
    """
    where = format_address(host, port)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{where} is not an address of this machine: {error}.", remedy="Correct the host.") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUse(f"Port {port} on {host} is in use.") from error
            raise ConfigError(
                f"Cannot listen on {where}: {error.strerror}.",
                remedy="Use an address of this machine and a port above 1023.",
            ) from error


def server_credentials(listen: Listen) -> grpc.ServerCredentials | None:
    """TLS credentials, with `client_ca` for mutual TLS; None when no certificate is set.

    The files are looked at before each handshake: a certificate that was renewed, or a list of authorities that
    changed, is in force for the next connection without a restart. Wrong content leaves the old in force.

    Raises:
        ConfigError: a file is missing or wrong.
    """
    cert, key, authority = listen.tls_cert, listen.tls_key, listen.client_ca
    if cert is None or key is None:
        return None

    def load() -> grpc.ServerCertificateConfiguration:
        chain, private = read_key_pair(cert, key)
        roots = read_authority(authority) if authority is not None else None
        return grpc.ssl_server_certificate_configuration([(private, chain)], root_certificates=roots)

    def fetch() -> Any:  # None keeps what is in force
        return held.value if held.refresh() else None

    paths = [path for path in (cert, key, authority) if path is not None]
    held = Reloaded("TLS certificates", paths, load)
    return grpc.dynamic_ssl_server_credentials(held.value, fetch, require_client_authentication=authority is not None)


def server_options(*, max_message_bytes: int = MAX_MESSAGE_BYTES, handshake_s: float = 10.0) -> list[tuple[str, int]]:
    """Options for `grpc.aio.server` that go with those of `open_channel`.

    A port is not shared with another process, and keepalive pings that `open_channel` sends are welcome. Who has not
    shaken hands within `handshake_s` is cut off (gRPC's own patience is two minutes).
    """
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", round(1000 * handshake_s)),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _SHORTEST_PING_INTERVAL_MS),
    ]


def add_port(server: aio.Server, listen: Listen) -> int:
    """Bind the server where `listen` says, with its credentials; the port that it got.

    Raises:
        AddressInUse, ConfigError: as `check_port_free` and `server_credentials`.
    """
    check_port_free(listen.host, listen.port)
    credentials = server_credentials(listen)
    where = format_address(listen.host, listen.port)
    try:
        if credentials is None:
            return server.add_insecure_port(where)
        return server.add_secure_port(where, credentials)
    except RuntimeError as error:
        raise AddressInUse(f"Cannot listen on {where}: {error}.") from error
