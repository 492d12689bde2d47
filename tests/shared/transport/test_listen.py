"""Where a server may listen, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from pydantic import SecretStr

from tests.shared.transport.conftest import Certificates, Listening, echo_server
from updraft.errors import AddressInUse, ConfigError, InsecureListen
from updraft.transport import (
    add_port,
    check_port_free,
    is_loopback,
    require_safe_listen,
    server_credentials,
    server_options,
)

TOKEN = SecretStr("t0ken-of-some-length")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "localhost", "LOCALHOST", "::1", "[::1]", "::ffff:127.0.0.1", "::1%lo"]
)
def test_loopback_hosts(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "", "10.0.0.1", "::ffff:10.0.0.1", "localhost.example.org", "127.0.0.1.example.org", "fe80::1%1"],
)
def test_hosts_that_others_may_reach(host: str) -> None:
    assert not is_loopback(host)


def test_loopback_needs_no_protection() -> None:
    require_safe_listen(Listening(), insecure=False)


@pytest.mark.parametrize(
    ("tls", "token", "missing"),
    [
        (False, None, "TLS and a token"),
        (True, None, "a token"),
        (False, TOKEN, "TLS"),
        (True, SecretStr(""), "a token"),
        (True, SecretStr("fifteen-letters"), "a token of at least 16 characters"),
    ],
)
def test_other_hosts_need_tls_and_a_token(tls: bool, token: SecretStr | None, missing: str) -> None:
    pem = Path("x.pem") if tls else None
    listen = Listening(host="0.0.0.0", port=7080, tls_cert=pem, tls_key=pem, token=token)
    with pytest.raises(InsecureListen, match=f"0.0.0.0:7080 without {missing} would") as caught:
        require_safe_listen(listen, insecure=False)
    assert "--insecure" in caught.value.remedy
    require_safe_listen(listen, insecure=True)


def test_a_protected_server_may_listen_anywhere() -> None:
    pem = Path("x.pem")
    require_safe_listen(Listening(host="::", tls_cert=pem, tls_key=pem, token=TOKEN), insecure=False)


def test_tokens_of_a_file_will_do(tmp_path: Path) -> None:
    pem = Path("x.pem")
    protected = Listening(host="::", tls_cert=pem, tls_key=pem)
    require_safe_listen(protected, insecure=False, tokens=tmp_path / "tokens")
    with pytest.raises(InsecureListen, match="at least 16"):
        require_safe_listen(replace(protected, token=SecretStr("short")), insecure=False, tokens=tmp_path / "tokens")


async def test_who_says_nothing_in_the_handshake_is_cut_off(certificates: Certificates) -> None:
    listen = Listening(tls_cert=certificates.server_cert, tls_key=certificates.server_key)
    server = aio.server(options=server_options(handshake_s=0.1))
    port = add_port(server, listen)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()
    await server.stop(None)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(AddressInUse, match=str(port)):
            check_port_free("127.0.0.1", port)
    check_port_free("127.0.0.1", port)


def test_port_zero_is_always_free() -> None:
    check_port_free("localhost", 0)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "x" * 300])
def test_an_address_of_another_machine_is_a_configuration_error(host: str) -> None:
    with pytest.raises(ConfigError, match=host[:40]) as caught:
        check_port_free(host, 7080)
    assert not isinstance(caught.value, AddressInUse)


async def test_two_servers_never_share_a_port() -> None:
    async with echo_server(Listening()) as port:
        other = aio.server(options=server_options())
        with pytest.raises(AddressInUse):
            add_port(other, Listening(port=port))


def test_without_a_certificate_there_are_no_credentials() -> None:
    assert server_credentials(Listening()) is None


def test_files_that_are_missing_or_wrong_are_named(certificates: Certificates, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("not a certificate")
    missing = tmp_path / "missing.pem"
    good = Listening(tls_cert=certificates.server_cert, tls_key=certificates.server_key)
    changes: tuple[dict[str, Any], ...] = (
        {"tls_cert": missing},
        {"tls_cert": rubbish},
        {"tls_key": rubbish},
        {"tls_key": certificates.client_key},
        {"client_ca": missing},
        {"client_ca": rubbish},
    )
    for change in changes:
        with pytest.raises(ConfigError, match=next(iter(change.values())).name):
            server_credentials(replace(good, **change))


def test_an_encrypted_key_fails_and_does_not_ask(certificates: Certificates, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form

    key = form.load_pem_private_key(certificates.server_key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"secret"))
    )
    with pytest.raises(ConfigError, match=r"encrypted\.pem"):
        server_credentials(Listening(tls_cert=certificates.server_cert, tls_key=encrypted))
