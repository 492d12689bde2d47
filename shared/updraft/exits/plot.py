"""The reliability plot of a calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from updraft.errors import MissingExtra
from updraft.exits.calibration import ExitCalibration
from updraft.exits.collect import Observations
from updraft.exits.report import calibrated
from updraft.exits.scores import ScoreName

__all__ = ["plot_reliability"]

_BINS = 15


def plot_reliability(
    calibration: ExitCalibration, seen: Observations, score: ScoreName, path: Path, *, title: str
) -> None:
    """Agreement over the probability that was said, before and after calibration, one panel an exit.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "The plot needs matplotlib, which is not installed.",
            remedy='Install it with `pip install "updraft-llm[dev]"`.',
        ) from error
    figure = Figure(figsize=(4.2 * len(seen.stages), 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    after = calibrated(calibration, seen, score)
    panels = np.atleast_1d(figure.subplots(1, len(seen.stages), sharey=True))
    for number, axes in enumerate(panels):
        axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
        pairs = [("calibrated", after[number], "#1f6fb4")]
        if score != "patience":  # a count is no probability
            pairs.insert(0, (score, seen.scores[score][number], "#d9822b"))
        for label, said, colour in pairs:
            place = np.minimum((said * _BINS).astype(int), _BINS - 1)
            counts = np.bincount(place, minlength=_BINS)
            some = counts > 0
            means = np.bincount(place, said, _BINS)[some] / counts[some]
            hits = np.bincount(place, seen.agreed[number].astype(float), _BINS)[some] / counts[some]
            axes.plot(means, hits, marker="o", markersize=4, color=colour, label=label)
        axes.set(
            xlim=(0, 1), ylim=(0, 1), xlabel="probability that was said", title=f"exit at layer {seen.layers[number]}"
        )
        axes.legend(loc="upper left", frameon=False)
    panels[0].set_ylabel("agrees with the whole model")
    figure.savefig(path, metadata={"Software": None})
