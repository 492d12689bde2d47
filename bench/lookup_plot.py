"""The plot of `updraft bench lookup`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .plot import new_figure

__all__ = ["plot_lookup"]

_COLOURS = ("#222222", "#1f6fb4", "#6aa5d8", "#123f66", "#9fc5e8", "#4c9a4a", "#d9822b")


def plot_lookup(rows: list[dict[str, Any]], path: Path, *, subtitle: str) -> None:
    """Bars for every task and way: cloud passes a token at the first round trip, and time a token at every one.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = new_figure()
    trips = list(dict.fromkeys(row["round_trip_ms"] for row in rows))
    panels = figure.subplots(1, 1 + len(trips), squeeze=False)[0]
    figure.suptitle(f"Looked-up drafts against the cloud alone\n{subtitle}", fontsize=11)
    first = [row for row in rows if row["round_trip_ms"] == trips[0]]
    _bars(panels[0], first, "cloud_passes_per_token", "cloud passes a token", ".2f")
    for axes, trip in zip(panels[1:], trips, strict=True):
        own = [row for row in rows if row["round_trip_ms"] == trip]
        _bars(axes, own, "decode_ms_per_token", f"time a token [ms], round trip {trip:g} ms", ".0f")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _bars(axes: Any, rows: list[dict[str, Any]], key: str, label: str, form: str) -> None:
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    ways = list(dict.fromkeys(row["way"] for row in rows))
    width = 0.8 / len(ways)
    for place, way in enumerate(ways):
        values = [next(row[key] for row in rows if row["task"] == task and row["way"] == way) for task in tasks]
        where = [number - 0.4 + (place + 0.5) * width for number in range(len(tasks))]
        bars = axes.bar(where, values, width, color=_COLOURS[place % len(_COLOURS)], label=way)
        axes.bar_label(bars, fmt=f"{{:{form}}}", fontsize=6, padding=1)
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.3)
