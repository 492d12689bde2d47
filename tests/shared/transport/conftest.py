"""Certificates, and a server with one method of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc import aio
from pydantic import SecretStr

from updraft.transport import add_port, server_options

__all__ = ["Certificates", "Clock", "Listening", "echo_server"]

SERVICE = "updraft.test.Echo"


@dataclass
class Clock:
    """A clock that tests set."""

    now: float

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Listening:
    """The fields that `updraft.transport` reads of ListenSettings."""

    host: str = "127.0.0.1"
    port: int = 0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    token: SecretStr | None = None


@dataclass(frozen=True)
class Certificates:
    """PEM files of one authority, a server named localhost, a client, and another authority."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path
    other_ca: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certificates]:
    folder = tmp_path_factory.mktemp("tls")
    authority, other = trustme.CA(), trustme.CA()
    server, client = authority.issue_cert("localhost"), authority.issue_cert("device.example.org")
    files = Certificates(*(folder / f"{name}.pem" for name in ("ca", "cert", "key", "client", "client-key", "other")))
    authority.cert_pem.write_to_path(files.ca)
    other.cert_pem.write_to_path(files.other_ca)
    for leaf, cert, key in (
        (server, files.server_cert, files.server_key),
        (client, files.client_cert, files.client_key),
    ):
        leaf.cert_chain_pems[0].write_to_path(cert)
        leaf.private_key_pem.write_to_path(key)
    yield files


Unary = Callable[[bytes, aio.ServicerContext[bytes, bytes]], Awaitable[bytes]]


async def _echo(request: bytes, _context: aio.ServicerContext[bytes, bytes]) -> bytes:
    return request


@asynccontextmanager
async def echo_server(
    listen: Listening, *, unary: Unary = _echo, interceptors: tuple[Any, ...] = (), max_message_bytes: int = 1 << 20
) -> AsyncIterator[int]:
    """A server whose methods UU, US, SU and SS answer what they get; the value is its port."""

    async def stream_out(request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield request

    async def stream_in(requests: AsyncIterator[bytes], _context: Any) -> bytes:
        return b"".join([request async for request in requests])

    async def stream_both(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    server = aio.server(interceptors=interceptors, options=server_options(max_message_bytes=max_message_bytes))
    handlers = {
        "UU": grpc.unary_unary_rpc_method_handler(unary),
        "US": grpc.unary_stream_rpc_method_handler(stream_out),
        "SU": grpc.stream_unary_rpc_method_handler(stream_in),
        "SS": grpc.stream_stream_rpc_method_handler(stream_both),
    }
    health = {"Check": grpc.unary_unary_rpc_method_handler(_echo)}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(SERVICE, handlers),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        )
    )
    port = add_port(server, listen)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)
