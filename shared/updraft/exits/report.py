"""How good a calibration is on text that it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from updraft.exits.calibration import ExitCalibration
from updraft.exits.collect import Observations
from updraft.exits.isotonic import expected_error
from updraft.exits.scores import ScoreName

__all__ = ["ExitQuality", "ThresholdRow", "calibrated", "exit_qualities", "threshold_table"]


@dataclass(frozen=True, slots=True)
class ExitQuality:
    """One exit and score on held-out text.

    Attributes:
        agreement: share of positions where the exit agrees with the whole model.
        raw_error: expected calibration error of the score taken as a probability; None where it is none.
        error: of the calibrated probability.
    """

    layer: int
    score: str
    agreement: float
    raw_error: float | None
    error: float


@dataclass(frozen=True, slots=True)
class ThresholdRow:
    """What a threshold on the calibrated probability gives; a token leaves at the first exit that passes it.

    Attributes:
        leaves: share of tokens that leave at each exit.
        agreement: share of those that agree with the whole model; nan if none leaves.
        depth: mean share of the model's layers that are computed, where tokens that leave nowhere need all.
    """

    threshold: float
    leaves: tuple[float, ...]
    agreement: float
    depth: float


def calibrated(calibration: ExitCalibration, seen: Observations, score: ScoreName) -> list[NDArray[np.float64]]:
    """Calibrated probabilities of every exit, each of shape (n,)."""
    return [
        np.array([calibration.agrees(stage, score, float(value)) for value in values])
        for stage, values in zip(seen.stages, seen.scores[score], strict=True)
    ]


def exit_qualities(calibration: ExitCalibration, seen: Observations) -> list[ExitQuality]:
    """One row for each exit and score."""
    rows = []
    for score, columns in seen.scores.items():
        for layer, raw, sure, agreed in zip(
            seen.layers, columns, calibrated(calibration, seen, score), seen.agreed, strict=True
        ):
            raw_error = None if score == "patience" else expected_error(raw, agreed)
            rows.append(ExitQuality(layer, score, float(agreed.mean()), raw_error, expected_error(sure, agreed)))
    return rows


def threshold_table(
    calibration: ExitCalibration, seen: Observations, score: ScoreName, thresholds: Sequence[float], layers: int
) -> list[ThresholdRow]:
    """What each threshold would give.

    Args:
        layers: of the whole model.
    """
    sure = np.array(calibrated(calibration, seen, score))
    agreed = np.array(seen.agreed)
    rows = []
    for threshold in thresholds:
        passes = sure > threshold
        place = np.where(passes.any(axis=0), passes.argmax(axis=0), len(sure))
        left = place < len(sure)
        depths = np.array([*seen.layers, layers])[place] / layers
        right = agreed[place[left], np.flatnonzero(left)]
        rows.append(
            ThresholdRow(
                threshold,
                tuple(float((place == number).mean()) for number in range(len(sure))),
                float(right.mean()) if len(right) else float("nan"),
                float(depths.mean()),
            )
        )
    return rows
