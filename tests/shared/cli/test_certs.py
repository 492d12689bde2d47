from __future__ import annotations

import json
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.shared.cli.conftest import Updraft
from updraft.config import load_edge_settings
from updraft.transport import channel_credentials, server_credentials
from updraft.transport.authority import Authority, PemPair, write_pairs
from updraft.transport.certificates import read_certificate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "certs"


def read(path: Path) -> Any:
    return read_certificate(path.read_bytes())


def test_init_makes_what_both_tiers_can_use(updraft: Updraft, folder: Path) -> None:
    result = updraft(
        *("certs", "init", "--dir", str(folder), "--host", "cloud.example.org", "--host", "10.0.0.5", "--days", "30"),
        *("--client", "laptop", "--tenant", "acme", "--client", "phone", "--tenant", "beta"),
    )
    assert result.exit_code == 0, result.output
    names = {"ca", "server", "client-laptop", "client-phone"}
    assert {path.name for path in folder.iterdir()} == {f"{name}{end}.pem" for name in names for end in ("", "-key")}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.glob("*-key.pem"))
    server, phone = read(folder / "server.pem"), read(folder / "client-phone.pem")
    assert server.names == ("cloud.example.org", "10.0.0.5", "localhost", "127.0.0.1", "::1")
    assert (server.usages, phone.usages) == (("serverAuth",), ("clientAuth",))
    assert phone.subject == {"CN": "phone", "O": "beta"}
    assert timedelta(days=29) < server.not_after - datetime.now(UTC) <= timedelta(days=30)
    assert read(folder / "ca.pem").is_authority and not server.is_authority


def test_what_init_prints_can_be_pasted(updraft: Updraft, folder: Path, tmp_path: Path) -> None:
    result = updraft("certs", "init", "--dir", str(folder), "--client", "laptop", "--tenant", "acme")
    lines = result.stdout.splitlines()
    assert f"  updraft tokens add --tenant acme --expires 90d {folder}/tokens" in lines
    assert f"    --client-ca {folder}/ca.pem --tokens {folder}/tokens" in lines
    assert not any("0.0.0.0" in line for line in lines)
    start = lines.index("  [edge.cloud]")
    config = tmp_path / "updraft.toml"
    config.write_text("\n".join(lines[start : start + 7]))
    link = load_edge_settings(config).cloud
    assert (link.address, link.tls) == ("localhost:7080", True)
    channel_credentials(ca=link.ca, cert=link.cert, key=link.key)
    assert "wrote" in result.stderr and "wrote" not in result.stdout


def test_init_for_other_machines_listens_for_them(updraft: Updraft, folder: Path) -> None:
    result = updraft("certs", "init", "--dir", str(folder), "--host", "10.0.0.5", "--client", "laptop")
    assert "updraft serve cloud --host 0.0.0.0 " in result.stdout and 'address = "10.0.0.5:7080"' in result.stdout
    assert "--tenant default" in result.stdout


def test_init_as_json(updraft: Updraft, folder: Path) -> None:
    result = updraft("certs", "init", "--dir", str(folder), "--json")
    files = json.loads(result.stdout)
    assert [Path(pair["certificate"]).name for pair in files] == ["ca.pem", "server.pem"]
    assert all(Path(path).exists() for pair in files for path in pair.values())


def test_nothing_is_overwritten_unless_forced(updraft: Updraft, folder: Path) -> None:
    assert updraft("certs", "init", "--dir", str(folder)).exit_code == 0
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = updraft("certs", "init", "--dir", str(folder), "--client", "laptop")
    assert result.exit_code == 2
    assert "ca.pem exists already" in result.stderr and "--force" in result.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "ca-key.pem").chmod(0o644)
    assert updraft("certs", "init", "--dir", str(folder), "--force").exit_code == 0
    assert all(path.read_bytes() != data for path, data in before.items())
    assert stat.S_IMODE((folder / "ca-key.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ("--client", "a", "--client", "b", "--client", "c", "--tenant", "x", "--tenant", "y"),
            "3 devices and 2 tenants",
        ),
        (("--client", "../../etc/x"), "cannot be the name"),
        (("--client", "a", "--tenant", "x\ty"), "cannot be a tenant"),
        (("--host", "caf\u00e9"), "no name of a host"),
        (("--days", "0"), "--days"),
    ],
)
def test_what_cannot_be_made_writes_nothing(flags: tuple[str, ...], says: str, updraft: Updraft, folder: Path) -> None:
    result = updraft("certs", "init", "--dir", str(folder), *flags)
    assert result.exit_code == 2 and says in result.stderr
    assert not folder.exists()


def test_a_device_can_be_added_later(updraft: Updraft, folder: Path) -> None:
    updraft("certs", "init", "--dir", str(folder))
    result = updraft("certs", "client", "tablet", "--tenant", "acme", "--dir", str(folder), "--days", "2")
    assert result.exit_code == 0
    assert read(folder / "client-tablet.pem").subject == {"CN": "tablet", "O": "acme"}
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.pem")
    context.load_cert_chain(folder / "client-tablet.pem", folder / "client-tablet-key.pem")
    assert updraft("certs", "client", "tablet", "--dir", str(folder)).exit_code == 2
    assert updraft("certs", "client", "tablet", "--dir", str(folder), "--force").exit_code == 0


def test_without_an_authority_no_device_is_added(updraft: Updraft, folder: Path) -> None:
    result = updraft("certs", "client", "tablet", "--dir", str(folder))
    assert result.exit_code == 2 and "updraft certs init" in result.stderr
    updraft("certs", "init", "--dir", str(folder))
    (folder / "ca-key.pem").write_text("rubbish")
    assert updraft("certs", "client", "tablet", "--dir", str(folder)).exit_code == 2


def show(updraft: Updraft, folder: Path, days: float, start: datetime) -> tuple[str, int]:
    authority = Authority.create()
    pair = authority.server(["localhost"], days, now=start)
    write_pairs(folder, [PemPair("one", pair.certificate, pair.key)])
    result = updraft("certs", "show", str(folder / "one.pem"))
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("state")]
    return " ".join(line.split()[1:]), result.exit_code


@pytest.mark.parametrize(
    ("days", "offset", "state", "code"),
    [
        (100, 0, "good for 100 days", 0),
        (10.01, 0, "expires in 10.0 days", 0),
        (1, -2, "expired", 1),
        (10, 1, "not yet valid", 1),
    ],
)
def test_show_warns_in_time(days: float, offset: float, state: str, code: int, updraft: Updraft, folder: Path) -> None:
    assert show(updraft, folder, days, datetime.now(UTC) + timedelta(days=offset)) == (state, code)


def test_show_tells_what_a_file_holds(updraft: Updraft, folder: Path) -> None:
    updraft("certs", "init", "--dir", str(folder))
    chain = folder / "chain.pem"
    chain.write_bytes((folder / "server.pem").read_bytes() + (folder / "ca.pem").read_bytes())
    server, authority = json.loads(updraft("certs", "show", "--json", str(chain)).stdout)
    assert (server["kind"], authority["kind"]) == ("serverAuth", "authority")
    assert server["issuer"] == "CN=Updraft development authority"
    assert server["fingerprint"] == read(folder / "server.pem").fingerprint


@pytest.mark.parametrize(
    "content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_show_of_something_else_is_an_error(content: bytes, updraft: Updraft, tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert updraft("certs", "show", str(file)).exit_code == 2
    file.write_bytes(content)
    result = updraft("certs", "show", str(file))
    assert result.exit_code == 2 and "no PEM certificate" in result.stderr


def test_the_server_s_files_are_good_for_a_server(updraft: Updraft, folder: Path) -> None:
    from updraft.config import ListenSettings

    updraft("certs", "init", "--dir", str(folder))
    listen = ListenSettings(
        port=0, tls_cert=folder / "server.pem", tls_key=folder / "server-key.pem", client_ca=folder / "ca.pem"
    )
    assert server_credentials(listen) is not None
