"""The plot of `updraft bench ladder`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from .plot import new_figure

__all__ = ["plot_ladder"]

_COLOURS: Final = ("#1f6fb4", "#d9822b", "#4c9a4a")
_SHARES: Final = (("agreement", "o", "-", "greedy"), ("acceptance", "^", ":", "sampled"))


def plot_ladder(rows: list[dict[str, Any]], path: Path, *, subtitle: str) -> None:
    """What each model agrees with the cloud's in, against what its tokens cost of the cloud's.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = new_figure()
    axes = figure.subplots()
    figure.suptitle(f"The ladder: agreement against cost\n{subtitle}", fontsize=11)
    for library, colour in zip(dict.fromkeys(row["library"] for row in rows), _COLOURS, strict=False):
        own = sorted((row for row in rows if row["library"] == library), key=lambda row: row["cost_of_cloud"])
        costs = [row["cost_of_cloud"] for row in own]
        for value, marker, line, label in _SHARES:
            shares = [100 * row[value] for row in own]
            axes.plot(costs, shares, line, marker=marker, color=colour, label=f"{library}, {label}")
        for row in own:
            place = row["cost_of_cloud"], 100 * row["agreement"]
            axes.annotate(row["rung"], place, (4, 6), textcoords="offset points", fontsize=8)
    axes.set_xlabel("time a token, of the cloud's model's")
    axes.set_ylabel("same token as the cloud's model [% of positions]")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 108)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, metadata={"Software": None})
