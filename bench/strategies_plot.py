"""The plot of `updraft bench strategies`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from .plot import new_figure
from .strategy_curves import GREEDY, SEARCHES

__all__ = ["plot_strategies"]

_COLOURS: Final = ("#1f6fb4", "#d9822b", "#b03a48", "#4c9a4a", "#7b4ba0", "#2aa1a1", "#a0813a", "#d16ba5", "#5b5b5b")
_SHADED: Final = ("self-consistency", "weighted best-of-n")


def plot_strategies(results: dict[str, Any], path: Path) -> None:
    """Accuracy over tokens, a line a strategy, with the choice; beside it where resampling ends.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = new_figure()
    figure.set_size_inches(12, 7)
    curves, ends = figure.subplots(1, 2, width_ratios=(2, 1))
    figure.suptitle("Inference-time compute on the laboratory family: what tokens buy", fontsize=11)
    _curves(curves, results["curves"]["lab-cloud"])
    chosen = results["choice"]["rows"][0]
    spread = [[chosen["accuracy"] - chosen["low"]], [chosen["high"] - chosen["accuracy"]]]
    look: dict[str, Any] = {"marker": "*", "markersize": 14, "color": "#111111", "linestyle": "none"}
    curves.errorbar([chosen["tokens"]], [chosen["accuracy"]], spread, label="compute-optimal choice", **look)
    curves.set_xscale("log")
    curves.set_xlabel("tokens drawn for a question")
    curves.set_ylabel("right answers")
    curves.grid(alpha=0.3)
    _ends(ends, results["resampling"])
    handles, labels = curves.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _curves(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Samples as whole lines, search a step at a time dashed; a band is an interval of 95 %."""
    names = [name for name in dict.fromkeys(row["strategy"] for row in rows) if name != GREEDY]
    for place, name in enumerate(names):
        own = [row for row in rows if row["strategy"] == name]
        tokens, colour = [row["tokens"] for row in own], _COLOURS[place % len(_COLOURS)]
        look: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 4, "label": name}
        look["linestyle"] = "--" if name in SEARCHES else "-" if place < len(_COLOURS) else ":"
        axes.plot(tokens, [row["accuracy"] for row in own], **look)
        if name in _SHADED:
            low, high = [row["low"] for row in own], [row["high"] for row in own]
            axes.fill_between(tokens, low, high, color=colour, alpha=0.1, linewidth=0)
    for row in rows:
        if row["strategy"] == GREEDY:
            look = {"marker": "D", "markersize": 8, "color": "#111111", "linestyle": "none", "label": GREEDY}
            axes.plot([row["tokens"]], [row["accuracy"]], **look)


def _ends(axes: Any, results: dict[str, Any]) -> None:
    rows = results["rows"]
    tries = [row["tries"] for row in rows]
    axes.plot(tries, [row["exact"] for row in rows], color="#5b5b5b", linestyle=":", label="exact verifier")
    axes.plot(tries, [row["accuracy"] for row in rows], marker="o", color="#b03a48", label="reward model, measured")
    axes.plot(
        tries, [row["predicted"] for row in rows], color="#1f6fb4", linestyle="--", label="predicted by its rates"
    )
    axes.axhline(results["ceiling"], color="#1f6fb4", alpha=0.4, linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("draws until the verifier passes one, at most")
    axes.set_title("resampling", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
