"""`updraft models list|show|export`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from updraft.cli import export
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported, stderr

if TYPE_CHECKING:
    from updraft.models import CatalogEntry

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="List the known models, show what a model file says, or export it.")
    group.command("list", epilog=examples("updraft models list", "updraft models list --json"))(list_models)
    group.command("show", epilog=examples("updraft models show smollm2", "updraft models show ./model.gguf"))(show)
    export.register(group)
    app.add_typer(group, name="models", epilog=examples("updraft models list"))


@reported
def list_models(as_json: JsonOption = False) -> None:
    """List the models that have names; any GGUF file can be used by its path besides."""
    from updraft.models import catalog

    entries = catalog()
    if as_json:
        print_json([{**asdict(entry), "path": _text(entry.path)} for entry in entries])
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("model", "state", "licence", "description"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        table.add_row(entry.name, _state(entry), entry.licence, escape(entry.description))
    Console().print(table)


@reported
def show(
    model: Annotated[
        str,
        typer.Argument(metavar="NAME|PATH", help="A known model, a GGUF file, or a staged or Hugging Face folder."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Show a model's size, quantisation, context, fingerprint, tokenizer and stages; makes its file if need be."""
    from updraft.models import model_info, resolve
    from updraft.models.staged.manifest import MANIFEST_FILE

    path = resolve(model, progress=lambda line: stderr().print(line, markup=False, soft_wrap=True))
    info = asdict(model_info(path))
    record: dict[str, Any] = {"path": str(path), **info, "end_tokens": sorted(info["end_tokens"])}
    record["chat_template"] = record["chat_template"] is not None
    if (path / MANIFEST_FILE).exists():
        record |= _stages(path)
    if as_json:
        print_json(record)
        return
    for name, value in record.items():
        typer.echo(f"{name.replace('_', ' '):<16} {_text(value)}")


def _state(entry: CatalogEntry) -> str:
    if entry.path:
        return "ready"
    if entry.available:
        return "made on first use"
    return f"needs the extra {entry.needs}" if entry.needs else "not installed"


def _stages(folder: Path) -> dict[str, Any]:
    """The layers of each stage, and after how many there is an exit."""
    from updraft.models.staged import read_manifest

    manifest = read_manifest(folder)
    return {
        "stages": [f"{stage.first}-{stage.last - 1}" for stage in manifest.stages],
        "exits": [manifest.stages[part.stage].last for part in manifest.exits],
    }


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value) if isinstance(value, Path) or value is not None else None
