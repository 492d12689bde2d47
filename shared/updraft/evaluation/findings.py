"""What a report says of a task: measures with intervals, curves of quality against the cloud's share, and verdicts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Final

__all__ = ["FEW_ITEMS", "Curve", "CurvePoint", "Row", "TaskReport", "verdict"]

FEW_ITEMS: Final = 30
"""With fewer, a bootstrap's intervals are too narrow to tell anything by."""


@dataclass(frozen=True, slots=True)
class Row:
    """A variant's figures on a task; `interval` is of the main measure, 95 %, over items."""

    variant: str
    mode: str
    measures: dict[str, float]
    interval: tuple[float, float]
    share: float
    passes_per_item: float
    tokens_per_item: float
    seconds_per_item: float
    degraded: int


@dataclass(frozen=True, slots=True)
class CurvePoint:
    name: str
    share: float
    quality: float
    interval: tuple[float, float]
    above_random: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A policy's quality against share, from edge only (share 0) to cloud only (share 1).

    Attributes:
        area_above_random: mean height over the line between the tiers; `area_interval` resamples items, all variants
            of one together.
        gain: the part of the oracle's area above random that is reached (None where the oracle gains nothing).
        level: items: whole items go to one tier; tokens: tokens of given text do; written: the policy wrote answers,
            and is compared with the oracle of whole items, which it is not bound by.
    """

    policy: str
    level: str
    points: tuple[CurvePoint, ...]
    area_above_random: float
    area_interval: tuple[float, float]
    gain: float | None
    gain_interval: tuple[float, float] | None


@dataclass(slots=True)
class TaskReport:
    """Everything about one task.

    Attributes:
        oracle: share and quality of the oracle that knows, of every item, where the cloud is better.
        token_oracle: the same over tokens, where given text was judged.
    """

    task: str
    summary: str
    metric: str
    items: int
    skipped: int
    rows: list[Row]
    curves: list[Curve]
    oracle: list[tuple[float, float]]
    token_oracle: list[tuple[float, float]] = field(default_factory=list)
    token_ends: tuple[float, float] | None = None
    gap: float = 0.0
    gap_interval: tuple[float, float] = (0.0, 0.0)

    def record(self) -> dict[str, Any]:
        """For JSON: numbers that are none are null."""
        cleaned = _clean(asdict(self))
        if not isinstance(cleaned, dict):
            raise TypeError("a report is an object")
        return cleaned


def verdict(curve: Curve) -> str:
    """In words, whether a policy beats random escalation; the interval decides."""
    low, high = curve.area_interval
    if low > 0:
        below = [point for point in curve.points if point.above_random < 0]
        where = "at every share that was tried" if not below else f"on the whole, not at {len(below)} of its points"
        return f"{curve.policy} beats random escalation {where}."
    if high < 0:
        return f"{curve.policy} is worse than random escalation."
    return f"{curve.policy} does not beat random escalation: the interval of its area above random holds 0."


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return None if not math.isfinite(value) else value
    if isinstance(value, dict):
        return {name: _clean(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(entry) for entry in value]
    return value
