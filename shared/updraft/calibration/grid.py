"""The knob of each mode, as a grid from the most cautious setting (most of the cloud) to the boldest.

A grid must be chosen without a look at the calibration prompts, or the promises do not hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from updraft.errors import InvalidRequest
from updraft.modes import Mode, ModeSettings

__all__ = ["KNOBS", "GridPoint", "lossless", "make_grid"]


@dataclass(frozen=True, slots=True)
class GridPoint:
    """One setting to measure.

    Attributes:
        settings: of the mode, as a request would write them.
        exact: its text is the cloud's by construction, so its loss needs no test.
    """

    value: float
    settings: dict[str, Any]
    exact: bool = False


@dataclass(frozen=True, slots=True)
class _Knob:
    """`rising`: larger values are bolder."""

    name: str
    values: tuple[float, ...]
    rising: bool


KNOBS: Final[dict[Mode, _Knob]] = {
    Mode.SPAN: _Knob("span.escalate", (0.25, 0.5, 0.8, 1.2, 1.7, 2.3, 3.2, 4.5), True),
    Mode.CASCADE: _Knob("acceptance.alpha", (0.0, 0.1, 0.25, 0.4, 0.6, 0.8, 0.9, 0.97), True),
    Mode.REASON: _Knob("reason.threshold", (9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 2.0, 0.0), False),
    Mode.ROUTE: _Knob("route.threshold", (), True),
}
_HAND_BACK: Final = 0.6  # of the threshold that hands over: the default settings' proportion
_MOST_POINTS: Final = 64


def make_grid(
    mode: Mode,
    values: Sequence[float] | None = None,
    base: dict[str, dict[str, Any]] | None = None,
    *,
    most: int | None = _MOST_POINTS,
) -> list[GridPoint]:
    """The settings to measure, the most cautious first.

    Args:
        values: of the mode's knob, in any order; its own grid when left out.
        base: settings that hold at every point, such as `{"span": {"score": "energy"}}`.
        most: points, at most; None for any number.

    Raises:
        InvalidRequest: the mode has no knob, or a value is out of range.
    """
    knob = KNOBS.get(mode)
    if knob is None:
        known = ", ".join(KNOBS)
        raise InvalidRequest(f"The mode {mode} has nothing to calibrate; these have: {known}.", param="mode")
    chosen = sorted(set(values or knob.values), reverse=not knob.rising)
    if not chosen or len(chosen) > (most or len(chosen)) or not all(map(math.isfinite, chosen)):
        raise InvalidRequest(
            f"{knob.name} needs 1 to {_MOST_POINTS} finite values.", remedy="Give them with --grid.", param="grid"
        )
    points = [_point(mode, knob.name, value, base or {}) for value in chosen]
    for point in points:
        _check(mode, point, knob.name)
    return points


def _point(mode: Mode, name: str, value: float, base: dict[str, dict[str, Any]]) -> GridPoint:
    table, _, field = name.partition(".")
    settings = {key: dict(part) for key, part in base.items()}
    own = settings.setdefault(table, {})
    own[field] = value
    if mode is Mode.SPAN and own.get("score", "entropy") == "entropy":
        own.setdefault("hand_back", round(_HAND_BACK * value, 6))
    return GridPoint(value, settings, exact=lossless(mode, settings))


def lossless(mode: Mode, settings: dict[str, Any]) -> bool:
    """Whether a setting writes the cloud's own greedy text by construction."""
    own = settings.get("acceptance", {})
    return mode is Mode.CASCADE and own.get("alpha") == 0.0 and own.get("rule", "tolerance") == "tolerance"


def _check(mode: Mode, point: GridPoint, name: str) -> None:
    try:
        ModeSettings.model_validate({"mode": mode, **point.settings})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or name
        raise InvalidRequest(f"{name} cannot be {point.value:g}: {where}: {first['msg']}.", param="grid") from error
