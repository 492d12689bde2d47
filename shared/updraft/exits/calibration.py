"""Calibration of exit scores: from a score to the probability of agreeing with the full model, learned from data.

One isotonic regression for each exit and score; the curves of one model lie in `calibration.json` in its folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from updraft.errors import BadModelFile, ConfigError, ModelNotFound
from updraft.exits.files import replace_file
from updraft.exits.isotonic import Curve, fit_curve

__all__ = ["CALIBRATION_FILE", "ExitCalibration"]

CALIBRATION_FILE = "calibration.json"

_FORMAT = "updraft-exit-calibration-1"
_MAX_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class ExitCalibration:
    """The curves of one staged model.

    Attributes:
        model: fingerprint of the model that they were fitted on.
        agreement: by (stage of the exit, name of the score): probability that this exit agrees with the full model.
        outlooks: likewise: probability that this exit or a deeper one agrees.
        facts: how it was made.
    """

    model: str
    agreement: Mapping[tuple[int, str], Curve]
    outlooks: Mapping[tuple[int, str], Curve]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def agrees(self, stage: int, score: str, value: float) -> float:
        """Calibrated probability. Raises ConfigError where this exit or score was not calibrated."""
        return _curve(self.agreement, stage, score)(value)

    def outlook(self, stage: int, score: str, value: float) -> float:
        """Probability that no deeper exit is better, as `agrees`."""
        return _curve(self.outlooks, stage, score)(value)

    @classmethod
    def fit(
        cls,
        model: str,
        stages: Sequence[int],
        scores: Mapping[Any, Sequence[NDArray[Any]]],
        agreed: Sequence[NDArray[Any]],
        facts: Mapping[str, Any] | None = None,
    ) -> ExitCalibration:
        """Fit all curves.

        Args:
            stages: stage of each exit, shallowest first.
            scores: by name, an array for each exit, all of shape (n,).
            agreed: for each exit which positions agree with the full model, shape (n,).

        Raises:
            InvalidRequest: as `fit_curve`.
        """
        agreement: dict[tuple[int, str], Curve] = {}
        outlooks: dict[tuple[int, str], Curve] = {}
        for place, stage in enumerate(stages):
            hopeful = np.logical_or.reduce(list(agreed[place:]))
            for name, values in scores.items():
                agreement[stage, name] = fit_curve(values[place], agreed[place])
                outlooks[stage, name] = fit_curve(values[place], hopeful)
        return cls(model, agreement, outlooks, dict(facts or {}))

    def save(self, folder: Path) -> Path:
        """Write `calibration.json` into a staged model's folder, all at once."""
        record = {
            "format": _FORMAT,
            "model": self.model,
            "curves": [
                {
                    "stage": stage,
                    "score": score,
                    "agreement": _record(curve),
                    "outlook": _record(self.outlooks[stage, score]),
                }
                for (stage, score), curve in self.agreement.items()
            ],
            "facts": dict(self.facts),
        }
        path = folder / CALIBRATION_FILE
        replace_file(path, json.dumps(record, indent=1, allow_nan=False).encode() + b"\n")
        return path

    @classmethod
    def load(cls, folder: Path, model: str | None = None) -> ExitCalibration:
        """Read a folder's `calibration.json`.

        Args:
            model: fingerprint of the model at hand, if it is to be checked.

        Raises:
            ModelNotFound: there is none.
            BadModelFile: it is not what it should be, or of another model.
        """
        path = folder / CALIBRATION_FILE
        if not path.is_file():
            raise ModelNotFound(f"there is no calibration at {path}", remedy=_MAKE_IT)
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
            file = _File.model_validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise BadModelFile(f"{path} is not a calibration of exits: {_first(error)}", remedy=_MAKE_IT) from error
        if model is not None and file.model != model:
            raise BadModelFile(
                f"{path} was made for the model {file.model[:12]}…, this one is {model[:12]}…", remedy=_MAKE_IT
            )
        keys = [(entry.stage, entry.score) for entry in file.curves]
        agreement = {key: entry.agreement.curve() for key, entry in zip(keys, file.curves, strict=True)}
        outlooks = {key: entry.outlook.curve() for key, entry in zip(keys, file.curves, strict=True)}
        return cls(file.model, agreement, outlooks, file.facts)


_MAKE_IT = "Make it anew with `updraft calibrate exits FOLDER --text FILE.jsonl`."


class _CurveRecord(BaseModel):
    """A curve as it is written."""

    model_config = ConfigDict(extra="forbid", strict=True)

    scores: list[float] = Field(min_length=1, max_length=100_000)
    probabilities: list[float]
    positions: int = Field(ge=1)

    @model_validator(mode="after")
    def _is_a_curve(self) -> _CurveRecord:
        scores, levels = np.array(self.scores), np.array(self.probabilities)
        if len(scores) != len(levels) or not (np.isfinite(scores).all() and np.isfinite(levels).all()):
            raise ValueError("a curve needs as many finite probabilities as scores")
        if (np.diff(scores) <= 0).any() or (np.diff(levels) < 0).any():
            raise ValueError("a curve's scores must rise and its probabilities must not fall")
        if levels[0] < 0.0 or levels[-1] > 1.0:
            raise ValueError("a curve's probabilities must be from 0 to 1")
        return self

    def curve(self) -> Curve:
        return Curve(tuple(self.scores), tuple(self.probabilities), self.positions)


class _Entry(BaseModel):
    """The curves of one exit and score."""

    model_config = ConfigDict(extra="forbid", strict=True)

    stage: int = Field(ge=0, lt=4096)
    score: str = Field(min_length=1, max_length=64)
    agreement: _CurveRecord
    outlook: _CurveRecord


class _File(BaseModel):
    """`calibration.json`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: str = Field(pattern=f"^{_FORMAT}$")
    model: str = Field(max_length=256)
    curves: list[_Entry] = Field(min_length=1, max_length=4096)
    facts: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _each_once(self) -> _File:
        if len({(entry.stage, entry.score) for entry in self.curves}) != len(self.curves):
            raise ValueError("an exit has two curves for one score")
        return self


def _record(curve: Curve) -> dict[str, Any]:
    return {"scores": curve.scores, "probabilities": curve.probabilities, "positions": curve.positions}


def _curve(curves: Mapping[tuple[int, str], Curve], stage: int, score: str) -> Curve:
    if (stage, score) not in curves:
        known = ", ".join(f"{name} at stage {number}" for number, name in sorted(curves))
        raise ConfigError(f"The score {score} was not calibrated at stage {stage}; there is: {known}.", remedy=_MAKE_IT)
    return curves[stage, score]


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
    return str(error)
