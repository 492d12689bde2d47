"""The plot of `updraft bench strategies`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from .plot import new_figure

__all__ = ["plot_strategies"]

_COLOURS: Final = ("#1f6fb4", "#d9822b", "#4c9a4a", "#7b4ba0", "#b03a48", "#5b5b5b", "#2aa1a1", "#a0813a")


def plot_strategies(results: dict[str, Any], path: Path) -> None:
    """Accuracy over tokens, a line a strategy, with the choice and the tiers together; beside it where resampling ends.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = new_figure()
    curves, ends = figure.subplots(1, 2, width_ratios=(3, 2))
    figure.suptitle("Inference-time compute on the laboratory family: what tokens buy", fontsize=11)
    _curves(curves, results["curves"]["lab-cloud"])
    chosen = results["choice"]["rows"][0]
    curves.errorbar(
        [chosen["tokens"]],
        [chosen["accuracy"]],
        [[chosen["accuracy"] - chosen["low"]], [chosen["high"] - chosen["accuracy"]]],
        marker="*",
        markersize=13,
        color="#111111",
        linestyle="none",
        label="compute-optimal choice",
    )
    curves.set_xscale("log")
    curves.set_xlabel("tokens drawn for a question")
    curves.set_ylabel("right answers")
    curves.grid(alpha=0.3)
    _ends(ends, results["resampling"])
    handles, labels = curves.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _curves(axes: Any, rows: list[dict[str, Any]]) -> None:
    for place, name in enumerate(dict.fromkeys(row["strategy"] for row in rows)):
        own = [row for row in rows if row["strategy"] == name]
        tokens, colour = [row["tokens"] for row in own], _COLOURS[place % len(_COLOURS)]
        axes.plot(tokens, [row["accuracy"] for row in own], marker="o", markersize=4, color=colour, label=name)
        axes.fill_between(
            tokens, [row["low"] for row in own], [row["high"] for row in own], color=colour, alpha=0.08, linewidth=0
        )


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
