"""Tables that verbs print for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from updraft.config import SettingSource

__all__ = ["settings_table"]


def settings_table(rows: Sequence[SettingSource]) -> Table:
    """Key, value, default and place of settings; those that something has set stand out."""
    table = Table(box=None, pad_edge=False)
    for column in ("setting", "value", "default", "from"):
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = [escape(row.key), escape(_text(row.value)), escape(_text(row.default)), escape(row.place)]
        table.add_row(*cells, style="dim" if row.is_default else None)
    return table


def _text(value: object) -> str:
    if value is None:
        return "-"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
