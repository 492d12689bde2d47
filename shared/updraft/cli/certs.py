"""`updraft certs init|client|show`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported, stderr
from updraft.errors import ConfigError

if TYPE_CHECKING:
    from updraft.transport.authority import PemPair
    from updraft.transport.certificates import Certificate

__all__ = ["register"]

_SOON_DAYS: Final = 14
_DEFAULT_TENANT: Final = "default"

Folder = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Folder of the authority and its certificates.")]
Days = Annotated[float, typer.Option(min=0.01, max=3650, help="Days that the certificates are good for.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Make certificates for development, and look at any.")
    group.command(
        "init",
        epilog=examples(
            "updraft certs init --host cloud.example.org --client laptop --tenant acme",
            "updraft certs init --dir ./certs --host 10.0.0.5 --days 30",
        ),
    )(init)
    group.command("client", epilog=examples("updraft certs client tablet --tenant acme"))(client)
    group.command(
        "show",
        epilog=examples("updraft certs show updraft-certs/server.pem", "updraft certs show --json server.pem"),
    )(show)
    app.add_typer(group, name="certs", epilog=examples("updraft certs init --client laptop --tenant acme"))


@reported
def init(
    folder: Folder = Path("updraft-certs"),
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Name or address of the cloud; may be repeated. localhost is always one."),
    ] = None,
    client: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Device to make a certificate for; may be repeated.")
    ] = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Tenant of the devices: one for all, or one for each --client in turn."),
    ] = None,
    days: Days = 90,
    force: Force = False,
    as_json: JsonOption = False,
) -> None:
    """Make a development authority, a certificate for the cloud, and certificates for devices.

    The authority's key can make any device's certificate: keep it off the cloud's machine, or use a real authority
    (see docs/security.md).
    """
    from updraft.transport.authority import Authority, write_pairs

    devices = _devices(client or [], tenant or [])
    hosts = list(dict.fromkeys([*(host or []), "localhost", "127.0.0.1", "::1"]))
    authority = Authority.create()
    clients = [authority.client(name, whose, days) for name, whose in devices]
    pairs = [authority.pair(), authority.server(hosts, days), *clients]
    write_pairs(folder, pairs, force=force)
    if as_json:
        print_json(_written(folder, pairs))
        return
    _say_files(folder, pairs)
    cloud = (host or ["localhost"])[0]
    tenants = dict.fromkeys(whose for _, whose in devices) or [_DEFAULT_TENANT]
    typer.echo(_cloud_lines(folder, list(tenants), beyond=bool(host)))
    for pair in clients:
        typer.echo(_edge_lines(folder, pair, cloud))


@reported
def client(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the device.")],
    tenant: Annotated[str, typer.Option(metavar="NAME", help="Tenant whose device it is.")] = _DEFAULT_TENANT,
    folder: Folder = Path("updraft-certs"),
    days: Days = 90,
    force: Force = False,
    as_json: JsonOption = False,
) -> None:
    """Make a certificate for one more device of an authority that `updraft certs init` made, or renew one."""
    from updraft.transport.authority import Authority, write_pairs

    ((name, tenant),) = _devices([name], [tenant])
    pair = Authority.read(folder).client(name, tenant, days)
    write_pairs(folder, [pair], force=force)
    if as_json:
        print_json(_written(folder, [pair]))
        return
    _say_files(folder, [pair])
    typer.echo(_edge_lines(folder, pair, "CLOUD"))


@reported
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="PEM file with certificates.")],
    as_json: JsonOption = False,
) -> None:
    """Show what the certificates of a file say; exit code 1 if one of them is not good today."""
    from updraft.transport.certificates import read_certificates

    try:
        found = read_certificates(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.", remedy="Correct the path.") from error
    now = datetime.now(UTC)
    records = [_record(one, now) for one in found]
    if as_json:
        print_json(records)
    else:
        _print_tables(records)
    if any(record["state"] in ("expired", "not yet valid") for record in records):
        raise typer.Exit(1)


def _devices(names: Sequence[str], tenants: Sequence[str]) -> list[tuple[str, str]]:
    """Each device with its tenant."""
    from updraft.transport.token_file import is_tenant

    if len(tenants) not in (0, 1, len(names)):
        raise ConfigError(
            f"{len(names)} devices and {len(tenants)} tenants are given.",
            remedy="Give one --tenant for all devices, or one for each --client.",
        )
    for name in names:  # they become names of files
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", name):
            raise ConfigError(
                f"{name!r} cannot be the name of a device.",
                remedy="Use 1 to 64 letters, digits, dots, @, dashes and underscores, a letter or digit first.",
            )
    for tenant in tenants:
        if not is_tenant(tenant):
            raise ConfigError(f"{tenant!r} cannot be a tenant.", remedy="Use 1 to 64 printable characters.")
    whose = list(tenants) * (len(names) if len(tenants) == 1 else 1) or [_DEFAULT_TENANT] * len(names)
    return list(zip(names, whose, strict=True))


def _written(folder: Path, pairs: Sequence[PemPair]) -> list[dict[str, str]]:
    from updraft.transport.authority import certificate_files

    files = [certificate_files(folder, pair.stem) for pair in pairs]
    return [{"certificate": str(certificate), "key": str(key)} for certificate, key in files]


def _say_files(folder: Path, pairs: Sequence[PemPair]) -> None:
    console = stderr()
    for files in _written(folder, pairs):
        console.print(f"wrote {files['certificate']} and {files['key']}", markup=False, soft_wrap=True)


def _cloud_lines(folder: Path, tenants: Sequence[str], *, beyond: bool) -> str:
    host = " --host 0.0.0.0" if beyond else ""
    return "\n".join(
        (
            "The cloud:",
            *(
                f"  updraft tokens add --tenant {shlex.quote(tenant)} --expires 90d {folder}/tokens"
                for tenant in tenants
            ),
            f"  updraft serve cloud{host} --tls-cert {folder}/server.pem --tls-key {folder}/server-key.pem \\",
            f"    --client-ca {folder}/ca.pem --tokens {folder}/tokens",
        )
    )


def _edge_lines(folder: Path, pair: PemPair, cloud: str) -> str:
    return "\n".join(
        (
            f"The edge {pair.stem.removeprefix('client-')}, which needs ca.pem, {pair.stem}.pem and "
            f"{pair.stem}-key.pem, in its configuration file (`updraft config path`):",
            "  [edge.cloud]",
            f'  address = "{cloud}:7080"',
            "  tls = true",
            f'  ca = "{folder}/ca.pem"',
            f'  cert = "{folder}/{pair.stem}.pem"',
            f'  key = "{folder}/{pair.stem}-key.pem"',
            '  token = "..."  # or the variable UPDRAFT_EDGE__CLOUD__TOKEN',
        )
    )


def _record(one: Certificate, now: datetime) -> dict[str, Any]:
    return {
        "subject": ", ".join(f"{key}={value}" for key, value in one.subject.items()),
        "issuer": one.issuer,
        "names": list(one.names),
        "kind": "authority" if one.is_authority else ", ".join(one.usages) or "any use",
        "not_before": one.not_before.isoformat(),
        "not_after": one.not_after.isoformat(),
        "state": _state(one, now),
        "fingerprint": one.fingerprint,
    }


def _state(one: Certificate, now: datetime) -> str:
    if now >= one.not_after:
        return "expired"
    if now < one.not_before:
        return "not yet valid"
    days = (one.not_after - now).total_seconds() / 86_400
    return f"expires in {days:.1f} days" if days < _SOON_DAYS else f"good for {days:.0f} days"


def _print_tables(records: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    for record in records:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        for key, value in record.items():
            text = escape(", ".join(value) if isinstance(value, list) else value) or "-"
            bad = key == "state" and not value.startswith("good")
            table.add_row(key.replace("_", " "), f"[bold yellow]{text}[/]" if bad else text)
        Console().print(table)
