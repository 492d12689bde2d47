"""`updraft tokens add|list|revoke`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported, stderr
from updraft.errors import ConfigError

if TYPE_CHECKING:
    from updraft.transport.token_file import TokenEntry

__all__ = ["register"]

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SOON: Final = timedelta(days=14)

TokenFile = Annotated[Path, typer.Argument(metavar="FILE", help="Token file, as in `serve cloud --tokens FILE`.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Bearer tokens of edges, in a file that the cloud reads.")
    group.command(
        "add",
        epilog=examples(
            "updraft tokens add --tenant acme --expires 30d tokens",
            "updraft tokens add --tenant acme --name laptop --expires never tokens",
        ),
    )(add)
    group.command("list", epilog=examples("updraft tokens list tokens", "updraft tokens list --json tokens"))(
        list_tokens
    )
    group.command(
        "revoke",
        epilog=examples(
            "updraft tokens revoke --id 1f3a5c7e9b2d tokens",
            "updraft tokens revoke --certificate updraft-certs/client-laptop.pem tokens",
        ),
    )(revoke_token)
    app.add_typer(group, name="tokens", epilog=examples("updraft tokens add --tenant acme --expires 30d tokens"))


@reported
def add(
    file: TokenFile,
    tenant: Annotated[str, typer.Option(metavar="NAME", help="Tenant whose sessions the token opens.")],
    expires: Annotated[str, typer.Option(metavar="TIME", help="How long it is good: 90m, 12h, 30d, 8w or never.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What to call it, such as its device.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it, this once: the file keeps its SHA-256 only.

    A running cloud takes it at once. The edge is given it as cloud.token in its configuration file or in
    UPDRAFT_EDGE__CLOUD__TOKEN.
    """
    from updraft.transport.token_file import add_token

    now = datetime.now(UTC).replace(microsecond=0)
    entry, token = add_token(file, tenant=tenant, now=now, expires=_end(expires, now), name=name)
    if as_json:
        print_json({"token": token, **_record(entry, now)})
        return
    typer.echo(token)
    until = f"until {entry.expires:%Y-%m-%d %H:%M} UTC" if entry.expires else "until it is revoked"
    stderr().print(f"token {entry.id} of tenant {entry.tenant}, good {until}", markup=False, soft_wrap=True)


@reported
def list_tokens(file: TokenFile, as_json: JsonOption = False) -> None:
    """List the tokens of a file, and the client certificates that it shuts out."""
    from updraft.transport.token_file import read_tokens

    found = read_tokens(file)
    now = datetime.now(UTC)
    records = [_record(entry, now) for entry in found.entries.values()]
    certificates = sorted(found.revoked_certificates)
    if as_json:
        print_json({"tokens": records, "revoked_certificates": certificates})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("id", "tenant", "name", "expires", "state"):
        table.add_column(column, overflow="fold")
    for record in records:
        good = (record["state"] or "").startswith("valid")
        cells = {**record, "expires": (record["expires"] or "never")[:16].replace("T", " ")}
        table.add_row(*(cell or "-" for cell in cells.values()), style=None if good else "dim")
    console = Console()
    console.print(table)
    for fingerprint in certificates:
        console.print(f"certificate {fingerprint} is revoked", highlight=False, soft_wrap=True)


@reported
def revoke_token(
    file: TokenFile,
    token_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="Id of the token to revoke.")] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Client certificate to shut out, with or without a token.")
    ] = None,
) -> None:
    """Shut out a token or a client certificate. A running cloud ends its open sessions within a second."""
    from updraft.transport.certificates import read_certificate
    from updraft.transport.token_file import revoke

    if (token_id is None) == (certificate is None):
        raise ConfigError("One of --id and --certificate is needed.", remedy="Name what shall be revoked.")
    now = datetime.now(UTC).replace(microsecond=0)
    if certificate is None:
        revoke(file, now=now, token_id=token_id)
    else:
        try:
            fingerprint = read_certificate(certificate.read_bytes()).fingerprint
        except OSError as error:
            raise ConfigError(f"{certificate} cannot be read: {error.strerror}.", remedy="Correct the path.") from error
        revoke(file, now=now, certificate=fingerprint)
    stderr().print(f"revoked {token_id or certificate}", markup=False, soft_wrap=True)


def _end(text: str, now: datetime) -> datetime | None:
    if text == "never":
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhdw])", text)
    if match is None:
        raise ConfigError(f"--expires was given {text!r}.", remedy="Write 90m, 12h, 30d, 8w or never.")
    return now + timedelta(**{_UNITS[match[2]]: int(match[1])})


def _record(entry: TokenEntry, now: datetime) -> dict[str, str | None]:
    state: str = entry.state(now.timestamp())
    if state == "valid" and entry.expires is not None and entry.expires - now < _SOON:
        state = f"valid, expires in {(entry.expires - now).total_seconds() / 86_400:.1f} days"
    return {
        "id": entry.id,
        "tenant": entry.tenant,
        "name": entry.name,
        "expires": entry.expires.isoformat() if entry.expires is not None else None,
        "state": state,
    }
