"""The rules that make an identity of a token and a certificate, without a network."""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.shared.transport.conftest import Clock
from updraft.errors import ConfigError, MissingExtra, Unauthenticated
from updraft.transport import Authenticator, Identity, bearer_metadata
from updraft.transport.authority import Authority
from updraft.transport.certificates import read_certificate, read_certificates
from updraft.transport.identity import ANYONE
from updraft.transport.token_file import add_token, revoke

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def metadata(token: str) -> tuple[tuple[str, str], ...]:
    return bearer_metadata(SecretStr(token))


def test_nothing_configured_is_anyone() -> None:
    authenticator = Authenticator()
    assert authenticator.bearer(()) is None
    assert authenticator.identify(None, {}) == ANYONE == Identity("default")
    assert ANYONE.certificate_expires == math.inf


def test_the_shared_token_and_the_file_s_tokens_go_side_by_side(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    entry, token = add_token(file, tenant="acme", now=NOW, name="laptop")
    authenticator = Authenticator(token=SecretStr("shared"), tokens=file)
    shared, own = (authenticator.bearer(metadata(given)) for given in ("shared", token))
    assert authenticator.identify(shared, {}) == Identity("default")
    assert authenticator.identify(own, {}) == Identity("acme", name="laptop", token=entry.id)
    with pytest.raises(Unauthenticated):
        authenticator.bearer(metadata("other"))


def test_bytes_that_are_no_text_are_no_token(tmp_path: Path) -> None:
    add_token(tmp_path / "tokens", tenant="acme", now=NOW)
    authenticator = Authenticator(tokens=tmp_path / "tokens")
    for value in (b"Bearer \xff\xfe", b"Bearer ", b"Bearer updraft_\xff_x"):
        with pytest.raises(Unauthenticated):
            authenticator.bearer((("authorization", value),))


def test_expiry_and_revocation_are_told_to_who_holds_the_token(tmp_path: Path) -> None:
    file, clock = tmp_path / "tokens", Clock(NOW.timestamp())
    entry, token = add_token(file, tenant="acme", now=NOW, expires=NOW + timedelta(hours=1))
    authenticator = Authenticator(tokens=file, clock=clock)
    identity = authenticator.identify(authenticator.bearer(metadata(token)), {})
    authenticator.check(identity)
    clock.now += 3600
    with pytest.raises(Unauthenticated, match=f"{entry.id} is expired"):
        authenticator.bearer(metadata(token))
    with pytest.raises(Unauthenticated, match=f"{entry.id} is expired"):
        authenticator.check(identity)
    clock.now -= 1
    authenticator.check(identity)
    revoke(file, now=NOW, token_id=entry.id)
    with pytest.raises(Unauthenticated, match=f"{entry.id} is revoked"):
        authenticator.check(identity)
    with pytest.raises(Unauthenticated, match="no valid bearer token"):
        authenticator.bearer(metadata(token + "x"))


def test_a_new_token_counts_at_once_and_a_damaged_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    _, first = add_token(file, tenant="acme", now=NOW)
    authenticator = Authenticator(tokens=file)
    _, second = add_token(file, tenant="beta", now=NOW)
    assert authenticator.bearer(metadata(second)) is not None
    file.write_text("half a li")
    assert authenticator.bearer(metadata(first)) is not None
    file.unlink()
    assert authenticator.bearer(metadata(first)) is not None


def test_a_wrong_file_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        Authenticator(tokens=tmp_path / "missing")


def test_a_connection_without_a_certificate_is_nobody_where_one_is_asked_for() -> None:
    with pytest.raises(Unauthenticated, match="no client certificate"):
        Authenticator(tenant_field="O").identify(None, {})


def test_certificates_need_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtra, match="cryptography"):
        Authenticator(tenant_field="O")
    Authenticator(token=SecretStr("t"))


def test_what_a_certificate_says() -> None:
    authority = Authority.create(now=NOW)
    pair = authority.client("laptop", "acme", 30, now=NOW)
    found = read_certificate(pair.certificate)
    assert (found.name, found.subject["O"], found.names) == ("laptop", "acme", ())
    assert found.not_after == NOW + timedelta(days=30) and found.not_before < NOW
    assert len(found.fingerprint) == 64
    server = read_certificate(authority.server(["a.example", "::1"], 1, now=NOW).certificate)
    assert server.names == ("a.example", "::1")
    assert [one.is_authority for one in read_certificates(authority.pair().certificate + pair.certificate)] == [
        True,
        False,
    ]
    with pytest.raises(ConfigError, match="no PEM certificate"):
        read_certificate(b"")


def test_no_certificate_outlives_its_authority() -> None:
    authority = Authority.create(now=NOW)
    late = authority.client("laptop", "acme", 3650, now=NOW + timedelta(days=3000))
    end = read_certificate(authority.pair().certificate).not_after
    assert read_certificate(late.certificate).not_after == end
