"""The plots of `updraft bench passes`, `capacity` and `simulation`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from .plot import new_figure

__all__ = ["plot_capacity", "plot_passes", "plot_simulation"]

_COLOURS: Final = (
    *("#222222", "#1f6fb4", "#d9822b", "#4c9a4a", "#7b3fa0"),
    *("#b23b3b", "#4a8f8c", "#999999", "#c9a227", "#e07bb5"),
)


def plot_passes(curves: list[dict[str, Any]], path: Path) -> None:
    """Milliseconds of a pass over its positions, a panel for each engine, a line for each number of sequences.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = new_figure()
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    figure.suptitle("What a pass takes, draws included", fontsize=11)
    for axes, curve in zip(panels, curves, strict=True):
        for place, sequences in enumerate(sorted({point[0] for point in curve["points"]})):
            line = sorted((positions, 1e3 * s) for count, positions, s in curve["points"] if count == sequences)
            _line(axes, line, place, f"{sequences} sequences")
        axes.set_title(curve["name"], fontsize=10)
        axes.set_xlabel("positions in the pass")
        axes.set_ylabel("time of the pass [ms]")
        axes.set_ylim(bottom=0)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def plot_capacity(results: dict[str, Any], path: Path, *, subtitle: str) -> None:
    """Time between tokens over sessions at once, with what the simulation predicts; goodput over the offered load.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = new_figure()
    times, goodput = figure.subplots(1, 2)
    figure.suptitle(f"Sessions that one cloud carries\n{subtitle}", fontsize=11)
    for place, mode in enumerate(dict.fromkeys(row["mode"] for row in results["at_once"])):
        own = [row for row in results["at_once"] if row["mode"] == mode]
        _line(times, [(row["load"], row["token_p95_ms"]) for row in own], place, mode)
        times.plot(
            [row["load"] for row in own],
            [row["predicted_p95_ms"] for row in own],
            color=_COLOURS[place % len(_COLOURS)],
            linestyle=":",
        )
    times.axhline(results["objective"]["token_ms"], color="#999999", linestyle="--")
    times.set_xlabel("sessions at once (dotted: simulated)")
    times.set_ylabel("time between tokens, p95 of answers [ms]")
    times.set_ylim(bottom=0)
    for place, mode in enumerate(dict.fromkeys(row["mode"] for row in results["overload"])):
        own = [row for row in results["overload"] if row["mode"] == mode]
        _line(goodput, [(row["times"], 60 * row["goodput"]) for row in own], place, mode)
    goodput.set_xlabel("offered load, times what mode cloud carries")
    goodput.set_ylabel("answers within the objective a minute")
    goodput.set_ylim(bottom=0)
    figure.legend(*times.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def plot_simulation(rows: list[dict[str, Any]], path: Path, *, subtitle: str) -> None:
    """Sessions carried against mode cloud's over the objective, a panel for each curve, at the shortest round trip.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = new_figure()
    curves = list(dict.fromkeys(row["curve"] for row in rows))
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    figure.suptitle(f"Simulated: sessions carried, times mode cloud\n{subtitle}", fontsize=11)
    trip = min(row["round_trip_ms"] for row in rows)
    for axes, curve in zip(panels, curves, strict=True):
        shown = [row for row in rows if row["curve"] == curve and row["round_trip_ms"] == trip]
        for place, mode in enumerate(dict.fromkeys(row["mode"] for row in shown)):
            own = [row for row in shown if row["mode"] == mode and row["vs_cloud"] is not None]
            _line(axes, [(row["tightness"], row["vs_cloud"]) for row in own], place, mode)
        axes.set_title(f"{curve}, {trip:g} ms", fontsize=10)
        axes.set_xlabel("time between tokens allowed, bare passes")
        axes.set_ylabel("sessions carried, times mode cloud")
        axes.set_ylim(bottom=0)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _line(axes: Any, points: list[tuple[float, float]], place: int, label: str) -> None:
    points = sorted(points)
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        marker="o",
        color=_COLOURS[place % len(_COLOURS)],
        label=label,
    )
    axes.grid(alpha=0.3)
