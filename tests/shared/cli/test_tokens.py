from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.shared.cli.conftest import Updraft
from updraft.transport.authority import Authority, write_pairs
from updraft.transport.certificates import read_certificate
from updraft.transport.token_file import read_tokens


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def test_a_token_is_printed_once_and_kept_nowhere(updraft: Updraft, file: Path) -> None:
    result = updraft("tokens", "add", "--tenant", "acme", "--expires", "30d", "--name", "laptop", str(file))
    assert result.exit_code == 0
    token = result.stdout.strip()
    entry = read_tokens(file).find(token)
    assert entry is not None and (entry.tenant, entry.name) == ("acme", "laptop")
    assert entry.expires is not None
    assert timedelta(days=29.9) < entry.expires - datetime.now(UTC) <= timedelta(days=30)
    assert token not in file.read_text()
    assert entry.id in result.stderr and token not in result.stderr


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("12h", 43_200), ("2w", 1_209_600)])
def test_how_long_a_token_is_good(text: str, seconds: int, updraft: Updraft, file: Path) -> None:
    record = json.loads(updraft("tokens", "add", "--tenant", "a", "--expires", text, "--json", str(file)).stdout)
    entry = read_tokens(file).find(record["token"])
    assert entry is not None and entry.expires is not None
    assert (entry.expires - entry.created).total_seconds() == seconds


def test_a_token_for_ever_must_be_asked_for(updraft: Updraft, file: Path) -> None:
    assert updraft("tokens", "add", "--tenant", "acme", str(file)).exit_code == 2
    result = updraft("tokens", "add", "--tenant", "acme", "--expires", "never", str(file))
    assert result.exit_code == 0 and "until it is revoked" in result.stderr


@pytest.mark.parametrize("text", ["", "30", "0d", "-1d", "1y", "30d ", "1.5d", "100000d", "\u0663d"])
def test_times_that_are_none(text: str, updraft: Updraft, file: Path) -> None:
    result = updraft("tokens", "add", "--tenant", "acme", f"--expires={text}", str(file))
    assert result.exit_code == 2 and "90m, 12h, 30d" in result.stderr
    assert not file.exists()


def test_the_list_shows_what_each_is_worth_and_no_secret(updraft: Updraft, file: Path) -> None:
    for expires in ("60d", "2h"):
        updraft("tokens", "add", "--tenant", "acme", "--expires", expires, str(file))
    first, second = read_tokens(file).entries.values()
    updraft("tokens", "revoke", "--id", second.id, str(file))
    lines = updraft("tokens", "list", str(file)).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["id", first.id, second.id]
    assert lines[1].rstrip().endswith("valid")
    assert lines[2].rstrip().endswith("revoked")
    records = json.loads(updraft("tokens", "list", "--json", str(file)).stdout)
    assert [record["state"] for record in records["tokens"]] == ["valid", "revoked"]
    assert not any("sha256" in record for record in records["tokens"])


def test_the_list_warns_in_time(updraft: Updraft, file: Path) -> None:
    updraft("tokens", "add", "--tenant", "acme", "--expires", "12h", str(file))
    (record,) = json.loads(updraft("tokens", "list", "--json", str(file)).stdout)["tokens"]
    assert record["state"] == "valid, expires in 0.5 days"


def test_a_device_is_shut_out_by_its_certificate(updraft: Updraft, file: Path, tmp_path: Path) -> None:
    pair = Authority.create().client("laptop", "acme", 1)
    write_pairs(tmp_path / "certs", [pair])
    result = updraft("tokens", "revoke", "--certificate", str(tmp_path / "certs/client-laptop.pem"), str(file))
    assert result.exit_code == 0
    fingerprint = read_certificate(pair.certificate).fingerprint
    assert read_tokens(file).revoked_certificates == {fingerprint}
    assert fingerprint in updraft("tokens", "list", str(file)).stdout


def test_what_cannot_be_revoked(updraft: Updraft, file: Path, tmp_path: Path) -> None:
    updraft("tokens", "add", "--tenant", "acme", "--expires", "1d", str(file))
    unknown = updraft("tokens", "revoke", "--id", "0123", str(file))
    assert unknown.exit_code == 2 and "updraft tokens list" in unknown.stderr
    assert updraft("tokens", "revoke", str(file)).exit_code == 2
    assert updraft("tokens", "revoke", "--id", "a", "--certificate", "b", str(file)).exit_code == 2
    assert updraft("tokens", "revoke", "--certificate", str(tmp_path / "missing"), str(file)).exit_code == 2


def test_a_file_that_is_none_is_an_error(updraft: Updraft, file: Path) -> None:
    assert updraft("tokens", "list", str(file)).exit_code == 2
    file.write_text("rubbish\n")
    for verb in (("list",), ("revoke", "--id", "a"), ("add", "--tenant", "a", "--expires", "never")):
        before = file.read_text()
        updraft("tokens", *verb, str(file))
        assert file.read_text().startswith(before)
