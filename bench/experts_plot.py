"""Plots of experts offloaded: over the budget, what a policy hits and how long it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from .plot import new_figure

__all__ = ["plot_budgets", "plot_wall_clock"]

_COLOURS: Final = (
    *("#222222", "#8a8a8a", "#4c9a4a", "#d9822b", "#6aa5d8", "#a05195", "#b39b00"),
    *("#c44e52", "#1f6fb4", "#00a0a0", "#8c564b", "#2f4b26", "#e377c2"),
)
_KNOWING: Final = ("belady", "oracle")


def plot_budgets(rows: list[dict[str, Any]], path: Path) -> None:
    """Hit rate and time against the budget, a line a policy; those that know the future are dashed.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = new_figure()
    hits, time = figure.subplots(1, 2)
    figure.suptitle("Experts on the device, simulated on a trace", fontsize=11)
    for place, name in enumerate(dict.fromkeys(row["policy"] for row in rows)):
        points = sorted((row for row in rows if row["policy"] == name), key=lambda row: float(row["budget_share"]))
        shares = [100 * row["budget_share"] for row in points]
        look: dict[str, Any] = {
            "color": _COLOURS[place % len(_COLOURS)],
            "linestyle": "--" if name in _KNOWING else "-",
            "linewidth": 2.0 if name in ("lru", "draft") else 1.0,
            "marker": "o",
            "markersize": 3,
        }
        hits.plot(shares, [100 * row["hit_rate"] for row in points], label=name, **look)
        time.plot(shares, [row["ms_per_pass"] for row in points], **look)
    hits.set_ylabel("needed experts that are there [%]")
    time.set_ylabel("time of a pass [ms]")
    _finish(figure, (hits, time), path)


def plot_wall_clock(rows: list[dict[str, Any]], path: Path, *, subtitle: str) -> None:
    """Tokens a second and bytes moved a token against the budget, a line a way.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = new_figure()
    rates, moved = figure.subplots(1, 2)
    figure.suptitle(f"Experts on the device, measured\n{subtitle}", fontsize=11)
    for place, name in enumerate(dict.fromkeys(row["way"] for row in rows)):
        points = sorted((row for row in rows if row["way"] == name), key=lambda row: float(row["budget_share"]))
        look: dict[str, Any] = {"color": _COLOURS[place % len(_COLOURS)], "marker": "o", "markersize": 3}
        shares = [100 * row["budget_share"] for row in points]
        rates.plot(shares, [row["tokens_per_second"] for row in points], label=name, **look)
        moved.plot(shares, [row["mib_per_token"] for row in points], **look)
    rates.set_ylabel("tokens a second")
    moved.set_ylabel("moved a token [MiB]")
    _finish(figure, (rates, moved), path)


def _finish(figure: Any, panels: tuple[Any, ...], path: Path) -> None:
    for axes in panels:
        axes.set_xlabel("budget [% of all experts]")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, metadata={"Software": None})
