"""What is known before an answer is written: the bandit's context, in numbers alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEATURES", "Situation", "features"]

Vector = NDArray[np.float64]

_ROUND_TRIP_S: Final = 0.05  # where the feature is a half
_TOKEN_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Situation:
    """Device, link, request and past, each as measured; None or not finite where unknown.

    Attributes:
        edge_s: the edge's own time for a token, seconds.
        cloud_s: the cloud's time for a pass, seconds.
        round_trip_s: of the link, seconds.
        throughput: bytes a second that the link was last seen to carry; a lower bound of its bandwidth.
        agreement: share of drafted tokens that the cloud would have written too, over past answers.
        load: runnable tasks a core, from 0 to 1.
        battery: the device runs on its battery.
        tokens: longest answer that is asked for.
        digits, marks: share of the prompt's characters that are digits, and those that code is full of.
    """

    edge_s: float
    cloud_s: float
    round_trip_s: float | None
    throughput: float | None
    agreement: float
    load: float
    battery: bool
    prompt_tokens: int
    tokens: int
    sampled: bool
    chat: bool
    digits: float
    marks: float


FEATURES: Final = (
    "bias",
    "round trip",
    "round trip known",
    "throughput",
    "edge token",
    "agreement",
    "load",
    "battery",
    "prompt",
    "answer",
    "sampled",
    "chat",
    "digits",
    "marks",
)
"""Names of the features, each from 0 to 1."""


def features(situation: Situation) -> Vector:
    """Shape (len(FEATURES),), always finite and from 0 to 1."""
    trip = _known(situation.round_trip_s)
    values = (
        1.0,
        0.0 if trip is None else _saturating(trip, _ROUND_TRIP_S),
        float(trip is not None),
        math.log10(1.0 + (_known(situation.throughput) or 0.0)) / 9.0,
        _saturating(_known(situation.edge_s) or 0.0, _TOKEN_S),
        _known(situation.agreement) or 0.0,
        _known(situation.load) or 0.0,
        float(situation.battery),
        math.log2(1.0 + max(0, situation.prompt_tokens)) / 15.0,
        math.log2(1.0 + max(0, situation.tokens)) / 15.0,
        float(situation.sampled),
        float(situation.chat),
        _known(situation.digits) or 0.0,
        _known(situation.marks) or 0.0,
    )
    return np.clip(np.array(values, dtype=np.float64), 0.0, 1.0)


def _known(value: float | None) -> float | None:
    """The value, if it is a number that can be measured."""
    return None if value is None or not math.isfinite(value) or value < 0.0 else value


def _saturating(value: float, half: float) -> float:
    return value / (value + half)
