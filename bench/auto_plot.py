"""Cumulative regret of `auto` and of what it is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .plot import new_figure

__all__ = ["plot_auto"]

_STYLES = {"auto": ("#2563eb", 2.4), "auto, no drawing": ("#6ea8fe", 1.6), "defaults alone": ("#7c3aed", 1.6)}
_STYLES |= {"random": ("#b91c1c", 1.6)}


def plot_auto(goals: list[dict[str, Any]], path: Path, *, subtitle: str) -> None:
    """A panel a goal; fixed arms are thin, the best of them is named.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = new_figure()
    panels = figure.subplots(1, len(goals), squeeze=False)[0]
    figure.suptitle(f"Cumulative regret of choosing a mode for each request\n{subtitle}", fontsize=11)
    for axes, one in zip(panels, goals, strict=True):
        _panel(axes, one)
    panels[0].set_ylabel("regret against the best arm of each situation")
    handles, labels = panels[0].get_legend_handles_labels()
    kept = [(handle, label) for handle, label in zip(handles, labels, strict=True) if label in _STYLES]
    figure.legend(*zip(*kept, strict=True), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _panel(axes: Any, one: dict[str, Any]) -> None:
    curves = one["curves"]
    fixed = {name: line for name, line in curves.items() if name not in _STYLES}
    for line in fixed.values():
        axes.plot(line, color="#9aa4b2", linewidth=0.7)
    if fixed:
        best = min(fixed, key=lambda name: fixed[name][-1])
        axes.plot(fixed[best], color="#16a34a", linewidth=1.6)
        axes.annotate(
            best, (len(fixed[best]) - 1, fixed[best][-1]), ha="right", va="bottom", color="#16a34a", fontsize=8
        )
    for name, (colour, width) in _STYLES.items():
        axes.plot(curves[name], color=colour, linewidth=width, label=name)
    axes.set_ylim(0, 1.15 * max(curves["random"][-1], curves["auto"][-1], 1e-6))
    axes.set_title(one["goal"], fontsize=10)
    axes.set_xlabel("choices")
