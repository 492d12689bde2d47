"""Options that several verbs share, and how they become overrides of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from updraft.errors import ConfigError

__all__ = [
    "CloudOption",
    "ConfigOption",
    "DeviceOption",
    "JsonOption",
    "LocalOnlyOption",
    "ModeOption",
    "ModelOption",
    "SetOption",
    "overrides",
]

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Configuration file; see `updraft config path`.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as cloud.reply_timeout_s=5; may be repeated."),
]
ModelOption = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="Name of a known model, or path of a GGUF file.")
]
DeviceOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Device profile that gives defaults; auto detects the device.")
]
ModeOption = Annotated[
    str | None,
    typer.Option(metavar="MODE", help="edge, cloud, draft, lookup, cascade, span, route, reason, exit, solve or auto."),
]
LocalOnlyOption = Annotated[bool | None, typer.Option("--local-only", help="Never open a connection to the cloud.")]
CloudOption = Annotated[str | None, typer.Option("--cloud", metavar="HOST:PORT", help="Address of the cloud service.")]


def overrides(extra: list[str] | None, /, **flags: Any) -> dict[str, Any]:
    """Overrides of settings: tables as dictionaries, flags that were not given as None.

    Args:
        extra: values of `--set`, which reach every key.
        flags: dotted names written with two underscores, such as `http__port`.

    Raises:
        ConfigError: a value of `--set` is not KEY=VALUE.
    """
    given: dict[str, Any] = {}
    for name, value in flags.items():
        if value is not None:
            _put(given, name.split("__"), value)
    for item in extra or ():
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set was given {item!r}; it must be KEY=VALUE.", remedy="Write --set max_tokens=64.")
        _put(given, key.strip().split("."), value)
    return given


def _put(table: dict[str, Any], names: list[str], value: Any) -> None:
    for name in names[:-1]:
        below = table.setdefault(name, {})
        if not isinstance(below, dict):
            raise ConfigError(f"--set gives {name} a value and uses it as a table.")
        table = below
    table[names[-1]] = value
