"""Files of tokens: what is written, what is refused, and what each entry is worth."""

from __future__ import annotations

import json
import stat
import string
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.errors import ConfigError, UnknownName
from updraft.transport.token_file import Tokens, add_token, read_tokens, revoke

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_a_token_is_found_by_itself_alone_and_never_stands_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    entry, token = add_token(file, tenant="acme", now=NOW, expires=NOW + timedelta(days=1), name="laptop")
    other, _ = add_token(file, tenant="beta", now=NOW)
    found = read_tokens(file)
    assert found.find(token) == entry
    assert (entry.tenant, entry.name, other.expires) == ("acme", "laptop", None)
    secret = token.removeprefix(f"updraft_{entry.id}_")
    assert len(secret) >= 43 and secret not in file.read_text()
    for wrong in (
        "",
        "updraft",
        f"updraft_{entry.id}_",
        token[:-1],
        token + "x",
        secret,
        token.replace("updraft", "x"),
    ):
        assert found.find(wrong) is None
    assert found.find(token.replace(entry.id, other.id)) is None
    assert found.find(entry.sha256) is None


@given(st.text(alphabet=string.printable + "\udcff\u00e9"))
def test_no_text_is_a_token_by_chance(text: str) -> None:
    assert Tokens().find(text) is None


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "new" / "tokens"
    entry, _ = add_token(file, tenant="acme", now=NOW)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    revoke(file, now=NOW, token_id=entry.id)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    add_token(file, tenant="acme", now=NOW)
    file.chmod(mode)
    with pytest.raises(ConfigError, match="Others may write") as caught:
        read_tokens(file)
    assert "chmod 600" in caught.value.remedy
    file.chmod(0o444)  # as secrets are mounted
    assert read_tokens(file).entries


def test_what_an_entry_is_worth(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    entry, _ = add_token(file, tenant="acme", now=NOW, expires=NOW + timedelta(seconds=10))
    at = NOW.timestamp()
    assert [entry.state(at + seconds) for seconds in (0, 9.9, 10, 11)] == ["valid", "valid", "expired", "expired"]
    revoke(file, now=NOW, token_id=entry.id)
    assert read_tokens(file).entries[entry.id].state(at) == "revoked"


def test_revoking_keeps_the_line_the_comments_and_the_first_time(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("# of the team\n\n")
    file.chmod(0o600)
    entry, _ = add_token(file, tenant="acme", now=NOW)
    revoke(file, now=NOW, token_id=entry.id)
    revoke(file, now=NOW + timedelta(days=1), token_id=entry.id)
    assert file.read_text().startswith("# of the team\n\n{")
    assert read_tokens(file).entries[entry.id].revoked == NOW
    with pytest.raises(UnknownName, match="no token 0123"):
        revoke(file, now=NOW, token_id="0123")


def test_certificates_can_be_shut_out(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    revoke(file, now=NOW, certificate="ab" * 32)
    assert read_tokens(file).revoked_certificates == {"ab" * 32}


@pytest.mark.parametrize("tenant", ["", " acme", "a\nb", "a" * 65, "a\u202eb", "a\x1b[2J"])
def test_names_that_could_not_stand_in_a_log(tenant: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tenant cannot be"):
        add_token(tmp_path / "tokens", tenant=tenant, now=NOW)
    assert not (tmp_path / "tokens").exists()


@pytest.mark.parametrize("name", ["", "a b", "../a", "-a", "\u00e9t\u00e9"])
def test_names_of_devices_are_plain(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name cannot be"):
        add_token(tmp_path / "tokens", tenant="Beta & Sons Ltd", now=NOW, name=name)


def _entry(tmp_path: Path) -> dict[str, object]:
    entry, _ = add_token(tmp_path / "model", tenant="acme", now=NOW)
    found: dict[str, object] = json.loads(entry.model_dump_json(exclude_none=True))
    return found


@pytest.mark.parametrize(
    "change",
    [
        {"id": "0123456789AB"},
        {"id": "short"},
        {"sha256": "00"},
        {"tenant": "a\tb"},
        {"expires": "soon"},
        {"expires": "2030-01-01T00:00:00"},
        {"admin": True},
    ],
)
def test_lines_that_are_no_entries_are_named_and_not_shown(change: dict[str, object], tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("# one\n" + json.dumps(_entry(tmp_path) | change) + "\n")
    with pytest.raises(ConfigError, match="Line 2") as caught:
        read_tokens(file)
    assert "acme" not in caught.value.message


@pytest.mark.parametrize("text", ["{", "[]", "null", "updraft_0123", '{"certificate": "zz", "revoked": "2030-01-01"}'])
def test_other_lines_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(ConfigError, match="Line 1"):
        read_tokens(file)


def test_one_id_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    add_token(file, tenant="acme", now=NOW)
    file.write_text(file.read_text() * 2)
    with pytest.raises(ConfigError, match="Line 2"):
        read_tokens(file)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        read_tokens(tmp_path / "missing")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_tokens(tmp_path)
    latin = tmp_path / "latin"
    latin.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_tokens(latin)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        add_token(blocked / "tokens", tenant="acme", now=NOW)


def test_two_who_edit_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tokens"

    def add_some() -> None:
        for _ in range(10):
            add_token(file, tenant="acme", now=NOW)

    threads = [threading.Thread(target=add_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_tokens(file).entries) == 40
