"""The plot of `updraft bench exit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from updraft.modes import Mode

from .plot import new_figure

__all__ = ["plot_exit"]

_COLOURS: Final = {
    "edge alone": "#4c9a4a",
    "token ids": "#d9822b",
    "hidden float32": "#8fb8de",
    "hidden float16": "#1f6fb4",
    "hidden int8": "#7b4ba0",
}


def plot_exit(results: dict[str, Any], path: Path, *, subtitle: str) -> None:
    """Over the threshold: tokens that leave early, agreement, what the cloud computes, and bytes.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = new_figure()
    figure.set_size_inches(12, 8)
    early, agreement, layers, sent = figure.subplots(2, 2).flat
    figure.suptitle(f"Early exits with a cloud behind them\n{subtitle}", fontsize=11)
    rows = [row for row in results["rows"] if row["threshold"] is not None]
    baseline = next(row for row in results["rows"] if row["mode"] == Mode.CLOUD)
    _lines(early, rows, "early_share", "share of tokens that leave early")
    published = results["published"]["early_share"]
    early.axhline(published, color="#888888", linestyle=":", label="CE-CoLLM, published")
    _lines(agreement, rows, "agreement", "share of tokens as the full model's")
    _lines(layers, rows, "cloud_layers_per_token", "cloud layers computed per token")
    layers.axhline(baseline["cloud_layers_per_token"], color="#222222", linestyle="--", label="cloud (baseline)")
    _lines(sent, rows, "bytes_up_per_token", "bytes up per token")
    sent.axhline(baseline["bytes_up_per_token"], color="#222222", linestyle="--", label="cloud (baseline)")
    sent.set_yscale("symlog", linthresh=10)
    handles = dict(zip(*reversed(early.get_legend_handles_labels()), strict=True))
    handles |= dict(zip(*reversed(layers.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=7, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _lines(axes: Any, rows: list[dict[str, Any]], key: str, label: str) -> None:
    for variant in dict.fromkeys(row["variant"] for row in rows):
        points = sorted((row["threshold"], row[key]) for row in rows if row["variant"] == variant)
        colour = _COLOURS.get(variant)
        axes.plot([x for x, _ in points], [y for _, y in points], label=variant, color=colour, marker="o")
    axes.set_xlabel("threshold")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
