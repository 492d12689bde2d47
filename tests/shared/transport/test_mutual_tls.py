"""Real TLS over loopback: which certificates are let in, as whom, and for how long."""

from __future__ import annotations

import asyncio
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from pydantic import SecretStr

from tests.shared.transport.conftest import SERVICE, Clock, Listening, echo_server
from updraft.errors import CloudUnavailable, Unauthenticated, UpdraftError
from updraft.transport import Authenticator, Guard, bearer_metadata, caller, error_from_rpc, open_channel
from updraft.transport.authority import Authority, PemPair, certificate_files, write_pairs
from updraft.transport.certificates import read_certificate
from updraft.transport.token_file import add_token, revoke

NOW = datetime.now(UTC)
PATIENCE = 20.0


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create()


@pytest.fixture
def folder(authority: Authority, tmp_path: Path) -> Path:
    """ca.pem, server.pem, a client of tenant acme, and tokens of acme and beta."""
    pairs = [authority.pair(), authority.server(["localhost"], 1), authority.client("laptop", "acme", 1)]
    write_pairs(tmp_path, pairs)
    return tmp_path


def listening(folder: Path) -> Listening:
    cert, key = certificate_files(folder, "server")
    return Listening(tls_cert=cert, tls_key=key, client_ca=folder / "ca.pem")


async def _who(_request: bytes, _context: Any) -> bytes:
    return f"{caller().tenant}/{caller().name}".encode()


@asynccontextmanager
async def serving(folder: Path, **credentials: Any) -> AsyncIterator[int]:
    guard = Guard(Authenticator(**{"tenant_field": "O", **credentials}), recheck_s=0.01)
    async with echo_server(listening(folder), unary=_who, interceptors=(guard,)) as port:
        yield port


def channel_of(port: int, folder: Path, stem: str | None = "client-laptop", **changes: Any) -> aio.Channel:
    cert, key = certificate_files(folder, stem) if stem is not None else (None, None)
    return open_channel(f"localhost:{port}", tls=True, **{"ca": folder / "ca.pem", "cert": cert, "key": key, **changes})


async def who(channel: aio.Channel, token: str | None = None) -> str:
    metadata = bearer_metadata(SecretStr(token) if token is not None else None)
    try:
        answer: bytes = await channel.unary_unary(f"/{SERVICE}/UU", None, None)(
            b"", timeout=PATIENCE, metadata=metadata
        )
    except grpc.RpcError as error:
        raise error_from_rpc(error) from error
    return answer.decode()


async def refusal(port: int, folder: Path, pair: PemPair, token: str | None = None) -> UpdraftError:
    """The error that a client with this certificate gets."""
    write_pairs(folder, [pair], force=True)
    async with channel_of(port, folder, pair.stem) as channel:
        with pytest.raises(UpdraftError) as caught:
            await who(channel, token)
    return caught.value


async def test_the_tenant_is_the_organisation_of_the_certificate(folder: Path, authority: Authority) -> None:
    write_pairs(folder, [authority.client("phone", "Beta & Sons Ltd", 1)])
    async with serving(folder) as port:
        async with channel_of(port, folder) as one, channel_of(port, folder, "client-phone") as two:
            assert await who(one) == "acme/laptop"
            assert await who(two) == "Beta & Sons Ltd/phone"


async def test_another_field_can_name_the_tenant(folder: Path) -> None:
    async with serving(folder, tenant_field="CN") as port, channel_of(port, folder) as channel:
        assert await who(channel) == "laptop/laptop"


@pytest.mark.parametrize(
    "case", ["none", "foreign authority", "expired", "not yet valid", "a server's", "the authority's name, another key"]
)
async def test_certificates_that_tls_turns_away(case: str, folder: Path, authority: Authority) -> None:
    stranger = Authority.create()
    async with serving(folder) as port:
        if case == "none":
            async with channel_of(port, folder, None) as channel:
                with pytest.raises(CloudUnavailable):
                    await who(channel)
            return
        match case:
            case "foreign authority" | "the authority's name, another key":
                pair = stranger.client("other", "acme", 1)
            case "expired":
                pair = authority.client("other", "acme", 1, now=NOW - timedelta(days=2))
            case "not yet valid":
                pair = authority.client("other", "acme", 1, now=NOW + timedelta(days=1))
            case _:
                pair = authority.server(["localhost"], 1)
        pair = PemPair("client-other", pair.certificate, pair.key)
        assert isinstance(await refusal(port, folder, pair), CloudUnavailable)


@pytest.mark.parametrize("case", ["foreign authority", "expired", "not yet valid", "wrong host", "a client's"])
async def test_servers_that_a_client_turns_away(case: str, folder: Path, authority: Authority) -> None:
    match case:
        case "foreign authority":
            pair = Authority.create().server(["localhost"], 1)
        case "expired":
            pair = authority.server(["localhost"], 1, now=NOW - timedelta(days=2))
        case "not yet valid":
            pair = authority.server(["localhost"], 1, now=NOW + timedelta(days=1))
        case "wrong host":
            pair = authority.server(["cloud.example.org"], 1)
        case _:
            pair = authority.client("localhost", "acme", 1)
    write_pairs(folder, [PemPair("server", pair.certificate, pair.key)], force=True)
    async with serving(folder) as port, channel_of(port, folder) as channel:
        with pytest.raises(CloudUnavailable):
            await who(channel)


async def test_plain_text_and_tls_never_meet(folder: Path) -> None:
    async with serving(folder) as port, open_channel(f"localhost:{port}") as channel:
        with pytest.raises(CloudUnavailable):
            await who(channel)
    async with echo_server(Listening(), unary=_who) as port, channel_of(port, folder) as channel:
        with pytest.raises(CloudUnavailable):
            await who(channel)


@pytest.mark.parametrize(("version", "spoken"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
async def test_nothing_older_than_tls_1_2_is_spoken(version: str, spoken: bool, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the old version's name
        context = ssl.create_default_context(cafile=folder / "ca.pem")
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # so that it is the server that refuses
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.load_cert_chain(*certificate_files(folder, "client-laptop"))
    context.set_alpn_protocols(["h2"])

    def shake(port: int) -> str | None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain:
                with context.wrap_socket(plain, server_hostname="localhost") as secured:
                    return secured.version()
        except (ssl.SSLError, ConnectionError):
            return None

    async with serving(folder) as port:
        assert await asyncio.to_thread(shake, port) == (version.replace("_", ".") if spoken else None)


async def test_both_factors_are_asked_for(folder: Path) -> None:
    _, token = add_token(folder / "tokens", tenant="acme", now=NOW, name="spare")
    async with serving(folder, tokens=folder / "tokens") as port:
        async with channel_of(port, folder) as channel:
            assert await who(channel, token) == "acme/laptop"
            with pytest.raises(Unauthenticated, match="no valid bearer token"):
                await who(channel)
        async with channel_of(port, folder, None) as channel:
            with pytest.raises(CloudUnavailable):
                await who(channel, token)


async def test_a_token_does_not_help_a_device_of_another_tenant(folder: Path) -> None:
    _, token = add_token(folder / "tokens", tenant="beta", now=NOW)
    async with serving(folder, tokens=folder / "tokens") as port, channel_of(port, folder) as channel:
        with pytest.raises(Unauthenticated, match="different tenants"):
            await who(channel, token)


async def test_a_certificate_without_a_tenant_needs_a_token_that_names_it(folder: Path) -> None:
    _, token = add_token(folder / "tokens", tenant="acme", now=NOW)
    async with serving(folder, tenant_field="OU") as port, channel_of(port, folder) as channel:
        with pytest.raises(Unauthenticated, match="names no tenant in the field OU"):
            await who(channel)
    credentials = {"tenant_field": "OU", "tokens": folder / "tokens"}
    async with serving(folder, **credentials) as port, channel_of(port, folder) as channel:
        assert await who(channel, token) == "acme/laptop"
    shared = {"tenant_field": "OU", "token": SecretStr("shared-by-all")}
    async with serving(folder, **shared) as port, channel_of(port, folder) as channel:
        assert await who(channel, "shared-by-all") == "default/laptop"


@pytest.mark.parametrize("tenant", ["x" * 64, "acme\u202e"])
async def test_a_tenant_that_could_deceive_a_reader_is_none(tenant: str, folder: Path, authority: Authority) -> None:
    pair = authority.client("phone", tenant, 1)
    async with serving(folder) as port:
        if tenant.isprintable():
            write_pairs(folder, [pair])
            async with channel_of(port, folder, pair.stem) as channel:
                assert await who(channel) == f"{tenant}/phone"
        else:
            assert "names no tenant" in (await refusal(port, folder, pair)).message


async def _open_stream(channel: aio.Channel) -> Any:
    method: Any = channel.stream_stream(f"/{SERVICE}/SS", None, None)
    stream = method()
    await stream.write(b"one")
    assert await stream.read() == b"one"
    return stream


async def test_a_certificate_that_expires_while_connected_ends_its_streams(folder: Path) -> None:
    clock = Clock(NOW.timestamp())
    async with serving(folder, clock=clock) as port, channel_of(port, folder) as channel:
        stream = await _open_stream(channel)
        clock.now = read_certificate((folder / "client-laptop.pem").read_bytes()).not_after.timestamp()
        async with asyncio.timeout(10):
            assert await stream.code() is grpc.StatusCode.UNAUTHENTICATED
        # The connection still stands: TLS looked at the certificate when it was made.
        with pytest.raises(Unauthenticated, match="certificate has expired"):
            await who(channel)


async def test_a_certificate_that_is_revoked_while_connected_ends_its_streams(folder: Path) -> None:
    tokens = folder / "tokens"
    _, token = add_token(tokens, tenant="acme", now=NOW)
    fingerprint = read_certificate((folder / "client-laptop.pem").read_bytes()).fingerprint
    async with serving(folder, tokens=tokens) as port, channel_of(port, folder) as channel:
        method: Any = channel.stream_stream(f"/{SERVICE}/SS", None, None)
        stream = method(metadata=bearer_metadata(SecretStr(token)))
        await stream.write(b"one")
        assert await stream.read() == b"one"
        revoke(tokens, now=NOW, certificate=fingerprint)
        async with asyncio.timeout(10):
            assert await stream.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(Unauthenticated, match="certificate is revoked"):
            await who(channel, token)


async def test_renewed_certificates_are_in_force_without_a_restart(folder: Path, authority: Authority) -> None:
    fresh = Authority.create()
    async with serving(folder) as port:
        async with channel_of(port, folder) as channel:
            assert await who(channel) == "acme/laptop"
            stream = await _open_stream(channel)
            # A key without its certificate: the old pair stays in force until the other file is there, too.
            renewed = authority.server(["localhost"], 1)
            (folder / "server-key.pem").write_bytes(renewed.key)
            async with channel_of(port, folder) as second:
                assert await who(second) == "acme/laptop"
            (folder / "server.pem").write_bytes(renewed.certificate)
            assert await _presented(port, folder) == read_certificate(renewed.certificate).fingerprint
            # Another authority altogether: its clients are let in, the old ones are not, open streams go on.
            write_pairs(
                folder, [fresh.pair(), fresh.server(["localhost"], 1), fresh.client("new", "acme", 1)], force=True
            )
            async with channel_of(port, folder, "client-new") as third:
                assert await who(third) == "acme/new"
            async with channel_of(port, folder) as late:
                with pytest.raises(CloudUnavailable):
                    await who(late)
            await stream.write(b"two")
            assert await stream.read() == b"two"


async def _presented(port: int, folder: Path) -> str:
    """Fingerprint of the certificate that the server shows."""
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.load_cert_chain(*certificate_files(folder, "client-laptop"))

    def look() -> str:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as secured:
                der = secured.getpeercert(binary_form=True)
        assert der is not None
        return read_certificate(ssl.DER_cert_to_PEM_cert(der).encode()).fingerprint

    return await asyncio.to_thread(look)
