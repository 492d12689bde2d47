"""The plot of `updraft bench stopping`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .plot import new_figure

__all__ = ["plot_stopping"]

_COLOURS = ("#1f6fb4", "#d9822b", "#4c9a4a", "#7b4ba0")


def plot_stopping(rows: list[dict[str, Any]], path: Path, *, subtitle: str) -> None:
    """Milliseconds a token over the fixed length, a line a link; rules as level lines. One panel a drafter.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = new_figure()
    drafters = list(dict.fromkeys(row["drafter"] for row in rows))
    panels = figure.subplots(1, len(drafters), squeeze=False)[0]
    figure.suptitle(f"How long should a drafted run be?\n{subtitle}", fontsize=11)
    for axes, drafter in zip(panels, drafters, strict=True):
        own = [row for row in rows if row["drafter"] == drafter]
        for place, trip in enumerate(dict.fromkeys(row["round_trip_ms"] for row in own)):
            colour = _COLOURS[place % len(_COLOURS)]
            fixed = sorted(
                (row["length"], row["wall_ms_per_token"])
                for row in own
                if row["round_trip_ms"] == trip and row["length"] is not None
            )
            axes.plot([x for x, _ in fixed], [y for _, y in fixed], marker="o", color=colour, label=f"{trip:g} ms")
            for row in own:
                if row["round_trip_ms"] == trip and row["rule"] == "cost-aware":
                    axes.axhline(row["wall_ms_per_token"], color=colour, linestyle="--")
        axes.set_title(drafter, fontsize=10)
        axes.set_xlabel("fixed run length [tokens]; dashed: cost-aware")
        axes.set_ylabel("time a token [ms]")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, metadata={"Software": None})
