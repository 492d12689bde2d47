"""Plots of measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from updraft.errors import MissingExtra
from updraft.modes import Mode

__all__ = ["new_figure", "plot_modes"]

_COLOURS: Final = {Mode.EDGE: "#4c9a4a", Mode.CLOUD: "#222222", Mode.DRAFT: "#1f6fb4", Mode.SPAN: "#d9822b"}
_MARKERS: Final = ("o", "s", "^", "D", "v", "P")


def plot_modes(rows: list[dict[str, Any]], path: Path, *, subtitle: str) -> None:
    """Tokens a second over the round trip, a line a variant, and beside it what each asks of the cloud.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = new_figure()
    rates, work = figure.subplots(1, 2, width_ratios=(3, 2))
    figure.suptitle(f"Modes against the round trip to the cloud\n{subtitle}", fontsize=11)
    _rates(rates, rows)
    _work(work, rows)
    figure.legend(*rates.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def new_figure() -> Any:
    """An empty figure that can be saved. Raises MissingExtra without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "The plot needs matplotlib, which is not installed; the JSON file is written.",
            remedy='Install it with `pip install "updraft-llm[dev]"`.',
        ) from error
    figure = Figure(figsize=(11, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _rates(axes: Any, rows: list[dict[str, Any]]) -> None:
    for name, mode, place in _lines(rows):
        points = sorted((row["round_trip_ms"], row["tokens_per_second"]) for row in rows if row["variant"] == name)
        baseline = mode == Mode.CLOUD
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            label=f"{name} (baseline)" if baseline else name,
            color=_COLOURS[mode],
            marker=_MARKERS[place % len(_MARKERS)],
            linestyle="--" if baseline else "-",
            alpha=1.0 if place == 0 else 0.65,
        )
    axes.set_xlabel("round-trip time [ms]")
    axes.set_ylabel("rate after the first token [tokens/s]")
    axes.set_xticks(sorted({row["round_trip_ms"] for row in rows}))
    axes.set_ylim(bottom=0)
    axes.set_title("what the reader sees", fontsize=10)
    axes.grid(alpha=0.3)


def _work(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Bars: cloud forward passes a token, the mean over the round trips."""
    lines = _lines(rows)
    for place, (name, mode, repeat) in enumerate(lines):
        own = [row["cloud_passes_per_token"] for row in rows if row["variant"] == name]
        bars = axes.bar(place, sum(own) / len(own), color=_COLOURS[mode], alpha=1.0 if repeat == 0 else 0.65)
        axes.bar_label(bars, fmt="%.2f", padding=2)
    axes.set_xticks(range(len(lines)), [name.replace(" ", "\n", 1) for name, _, _ in lines])
    axes.set_ylabel("cloud forward passes per token")
    axes.margins(y=0.12)
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.3)
    axes.set_title("what the cloud computes", fontsize=10)


def _lines(rows: list[dict[str, Any]]) -> list[tuple[str, Mode, int]]:
    """Variants in their order: name, mode, and the how-many-th of that mode it is."""
    found: dict[str, tuple[str, Mode, int]] = {}
    for row in rows:
        if row["variant"] not in found:
            mode = Mode(row["mode"])
            found[row["variant"]] = (row["variant"], mode, sum(other[1] is mode for other in found.values()))
    return list(found.values())
