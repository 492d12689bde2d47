"""What an answer was worth, from 0 to 1, by what its completion counts.

reward = w_quality * quality + w_speed * speed + w_thrift * thrift        (0 if the answer is degraded)

quality = (verified - tolerated / 2 + unverified * sure) / tokens
          A token that the cloud wrote or let stand counts 1; one that it only tolerated (mode `cascade`) 1/2; one
          that it never saw `sure`, the mean of the edge's own probability of these tokens and of the share of
          drafted tokens that the cloud agreed with in past answers. Lossless modes have quality 1.
speed   = edge_s / (edge_s + seconds / tokens)
          1/2 where a token takes as long as the edge's own alone, waits and the first token included.
thrift  = 1 - min(1, max(cloud passes, cloud tokens) / tokens)
          0 where every token costs the cloud a pass, 1 where it is not asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from updraft.auto.context import Situation
from updraft.generation import Statistics

__all__ = ["GOALS", "Goal", "Outcome", "reward"]

Goal = Literal["balanced", "quality", "latency", "cost"]

GOALS: Final[dict[Goal, tuple[float, float, float]]] = {
    "balanced": (0.5, 0.3, 0.2),
    "quality": (0.8, 0.1, 0.1),
    "latency": (0.3, 0.6, 0.1),
    "cost": (0.3, 0.1, 0.6),
}
"""Weights of quality, speed and thrift."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one answer came to; `probability` is the mean of the edge's own for the unverified tokens."""

    tokens: int
    seconds: float
    unverified: int
    probability: float
    tolerated: int
    cloud_tokens: int
    cloud_passes: int
    degraded: bool

    @classmethod
    def of(cls, counts: Statistics, *, degraded: bool) -> Outcome:
        return cls(
            tokens=counts.tokens,
            seconds=counts.seconds,
            unverified=counts.unverified,
            probability=counts.unverified_probability / counts.unverified if counts.unverified else 0.0,
            tolerated=counts.tolerated,
            cloud_tokens=counts.cloud_tokens,
            cloud_passes=counts.cloud_passes,
            degraded=degraded,
        )


def reward(outcome: Outcome, situation: Situation, goal: Goal) -> float:
    """See the module. From 0 to 1 whatever the numbers are; 0 for an answer without tokens."""
    if outcome.degraded or outcome.tokens <= 0:
        return 0.0
    quality, speed, thrift = GOALS[goal]
    sure = (_share(outcome.probability) + _share(situation.agreement)) / 2
    seen = outcome.tokens - outcome.unverified - outcome.tolerated / 2
    each = max(outcome.seconds, 1e-9) / outcome.tokens
    edge_s = max(situation.edge_s, 1e-6)
    asked = max(outcome.cloud_passes, outcome.cloud_tokens) / outcome.tokens
    return (
        quality * _share((seen + outcome.unverified * sure) / outcome.tokens)
        + speed * _share(edge_s / (edge_s + each))
        + thrift * (1.0 - _share(asked))
    )


def _share(value: float) -> float:
    """From 0 to 1; 0 for what is no number."""
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.0
