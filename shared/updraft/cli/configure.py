"""`updraft config show|path|init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from updraft.cli.options import ConfigOption, JsonOption
from updraft.cli.reporting import examples, print_json, reported
from updraft.errors import ConfigError, UnknownName

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Show the settings and where they come from.")
    group.command("show", epilog=examples("updraft config show edge", "updraft config show --json"))(show)
    group.command("path", epilog=examples("updraft config path"))(path)
    group.command("init", epilog=examples("updraft config init", "updraft config init --stdout"))(init)
    app.add_typer(group, name="config", epilog=examples("updraft config show"))


@reported
def show(
    tier: Annotated[str | None, typer.Argument(metavar="[edge|cloud]", help="Only this tier's settings.")] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only settings that something has set.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print every setting, its value and where it came from; secrets are masked."""
    from updraft.config import Tier, describe_sources

    if tier not in (None, "edge", "cloud"):
        raise UnknownName(f"There is no tier {tier!r}; tiers are edge, cloud.", param="tier")
    tiers: tuple[Tier, ...] = ("edge", "cloud") if tier is None else ("edge",) if tier == "edge" else ("cloud",)
    rows = [row for name in tiers for row in describe_sources(name, config) if not changed or not row.is_default]
    if as_json:
        print_json([{"key": row.key, "value": row.value, "default": row.default, "from": row.place} for row in rows])
        return
    from rich.console import Console

    from updraft.cli.tables import settings_table

    Console().print(settings_table(rows))


@reported
def path(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the path of the configuration file, whether or not it exists."""
    from updraft.config import config_path

    file = config or config_path()
    if as_json:
        print_json({"path": str(file), "exists": file.is_file()})
    else:
        typer.echo(file)


@reported
def init(
    config: ConfigOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="Print the file instead of writing it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a configuration file with every key, its default and its meaning, all commented out."""
    from updraft.config import config_path, config_template

    if stdout:
        typer.echo(config_template(), nl=False)
        return
    file = config or config_path()
    _write(file, config_template(), force=force)
    if as_json:
        print_json({"path": str(file)})
    else:
        typer.echo(f"wrote {file}")


def _write(file: Path, text: str, *, force: bool) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists() and not force:
            raise ConfigError(f"{file} exists already.", remedy="Give --force to overwrite it.")
        # The file may come to hold tokens: nobody else may read it.
        with file.open("w", encoding="utf-8") as stream:
            file.chmod(0o600)
            stream.write(text)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}.", remedy="Give another path with --config."
        ) from error
