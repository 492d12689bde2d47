"""Goals: what a user asks of a calibration, such as `disagreement<=0.05@0.9`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from updraft.errors import InvalidRequest

__all__ = ["METRICS", "Goal", "parse_goal"]

METRICS: Final = ("disagreement", "rejected", "mismatch", "share", "token_ms", "cost")
"""disagreement: 1 less the edit similarity to the cloud's tokens; rejected: tokens that are not the cloud's choice
after the text before them; mismatch: 1 where the text is not the cloud's; share: tokens that the cloud wrote;
token_ms: milliseconds a token; cost: money per 1000 tokens."""

_BOUNDED: Final = frozenset({"disagreement", "rejected", "mismatch", "share"})
_FORM: Final = re.compile(r"\s*([a-z_]+)\s*<=?\s*([0-9.]+)\s*(%?)\s*(?:@\s*([0-9.]+)\s*(%?)\s*)?")


@dataclass(frozen=True, slots=True)
class Goal:
    """At most `level` of a metric; with a confidence, with that probability over the calibration prompts.

    Without one the promise is on average over them too (conformal risk control).
    """

    metric: str
    level: float
    confidence: float | None = None

    @property
    def bounded(self) -> bool:
        """A loss from 0 to 1, about which something can be promised; times and money are only measured."""
        return self.metric in _BOUNDED

    @property
    def on_quality(self) -> bool:
        return self.metric in ("disagreement", "rejected", "mismatch")

    def at(self, level: float) -> Goal:
        return Goal(self.metric, level, self.confidence)

    def __str__(self) -> str:
        sure = "" if self.confidence is None else f"@{self.confidence:g}"
        return f"{self.metric}<={self.level:g}{sure}"


def parse_goal(text: str) -> Goal:
    """A goal as METRIC<=LEVEL or METRIC<=LEVEL@CONFIDENCE; `loss` means `disagreement`, and levels may be in percent.

    Raises:
        InvalidRequest: it has another form, or a number is out of range.
    """
    found = _FORM.fullmatch(text)
    try:
        if found is None:
            raise ValueError("write METRIC<=LEVEL or METRIC<=LEVEL@CONFIDENCE")
        metric = "disagreement" if found[1] == "loss" else found[1]
        if metric not in METRICS:
            raise ValueError(f"there is no {metric!r}; there are {', '.join(METRICS)}")
        level = float(found[2]) / (100.0 if found[3] else 1.0)
        confidence = None if found[4] is None else float(found[4]) / (100.0 if found[5] else 1.0)
        goal = Goal(metric, level, confidence)
        _check(goal)
    except ValueError as error:
        raise InvalidRequest(
            f"The goal {text!r} is none: {error}.",
            remedy="Such as share<=0.2, disagreement<=0.05@0.9, token_ms<=30.",
            param="goal",
        ) from error
    return goal


def _check(goal: Goal) -> None:
    if goal.bounded and not 0.0 < goal.level < 1.0:
        raise ValueError(f"{goal.metric} must be above 0 and below 1")
    if not goal.bounded and goal.level <= 0.0:
        raise ValueError(f"{goal.metric} must be above 0")
    if goal.confidence is not None and not goal.bounded:
        raise ValueError(f"{goal.metric} has no upper end, so nothing can be promised with a confidence")
    if goal.confidence is not None and not 0.5 <= goal.confidence < 1.0:
        raise ValueError("the confidence must be from 0.5 to below 1")
