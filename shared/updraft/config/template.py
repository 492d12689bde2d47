"""The text that `updraft config init` writes: every key with its default and meaning, generated from the schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from updraft.config.layers import OTHER_VARIABLES, TIERS, Key, variable

__all__ = ["config_template"]


def config_template() -> str:
    """A TOML file in which every setting is commented out and carries its default."""
    example = variable(("edge", "http", "port"))
    lines = [
        "# Settings of Updraft. Every key is shown with its default; take away the `#` before a key to change it.",
        f"# Flags come first, then variables (`{example}=7070`), then this file, the device profile, the defaults.",
        '# An empty text, "", stands for a value that is left out.',
        *(f"# {name}: {meaning}." for name, meaning in OTHER_VARIABLES.items()),
    ]
    for tier, cls in TIERS.items():
        lines += _table(cls(), (tier,), (cls.__doc__ or "").strip())
    return "\n".join(lines) + "\n"


def _table(table: BaseModel, key: Key, meaning: str) -> Iterator[str]:
    yield ""
    yield f"# {meaning}"
    yield f"[{'.'.join(key)}]"
    fields = type(table).model_fields
    for name, field in fields.items():
        value = getattr(table, name)
        if not isinstance(value, BaseModel):
            yield f"# {field.description}"
            yield f"# {name} = {_toml(value)}"
    for name, field in fields.items():
        value = getattr(table, name)
        if isinstance(value, BaseModel):
            yield from _table(value, (*key, name), field.description or "")


def _toml(value: Any) -> str:
    """A default as TOML; an empty text stands for what is left out."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    return str(value) if isinstance(value, (int, float)) else f'"{"" if value is None else value}"'
