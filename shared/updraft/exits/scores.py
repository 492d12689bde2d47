"""Scores: how sure an exit is of a token, as a function of what the exits said of it so far.

A score reads the *trace* of one token: one view for each exit passed, the shallowest first. Nothing has to be reset
between tokens. Scores rise with confidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from updraft.errors import ConfigError
from updraft.exits.heads import ExitHead, HeadSays
from updraft.sampling import Distribution

__all__ = [
    "SCORES",
    "Agreement",
    "Certainty",
    "ExitMass",
    "ExitView",
    "Score",
    "ScoreName",
    "TopProbability",
    "Trace",
    "head_says",
    "make_score",
]

ScoreName = Literal["probability", "entropy", "patience", "q"]
SCORES: tuple[ScoreName, ...] = ("probability", "entropy", "patience", "q")


@dataclass(frozen=True, slots=True)
class ExitView:
    """What one exit says of one token.

    Attributes:
        exit: the stage that the exit ends.
        token: the token it would write: its argmax at temperature 0, else what it draws with the answer's own noise.
        distribution: of its logits.
        features: its normalised hidden state, float32, shape (width,); only exit heads need it.
    """

    exit: int
    token: int
    distribution: Distribution
    features: NDArray[np.float32] | None = None


Trace = Sequence[ExitView]


class Score(Protocol):
    """How sure the last exit of a trace is; higher is surer."""

    @property
    def name(self) -> ScoreName: ...

    def __call__(self, trace: Trace) -> float: ...


class TopProbability:
    """Largest softmax probability (CE-CoLLM, arXiv 2411.02829; CALM, arXiv 2207.07061)."""

    name: ScoreName = "probability"

    def __call__(self, trace: Trace) -> float:
        return trace[-1].distribution.top_probability


class Certainty:
    """exp(-H) of the entropy H in nats: one over the number of equally likely tokens with that entropy.

    BranchyNet (arXiv 1709.01686) leaves where H < T: here, where exp(-H) is above exp(-T).
    """

    name: ScoreName = "entropy"

    def __call__(self, trace: Trace) -> float:
        return math.exp(-trace[-1].distribution.entropy)


class Agreement:
    """PABEE's counter (arXiv 2006.04152): how many exits in a row wrote the same token as the one before.

    One token's exits only: a token that has seen n exits counts to n - 1 at most.
    """

    name: ScoreName = "patience"

    def __call__(self, trace: Trace) -> float:
        count = 0
        for before, after in zip(reversed(trace[:-1]), reversed(trace), strict=False):
            if before.token != after.token:
                break
            count += 1
        return float(count)


class ExitMass:
    """PALBERT's cumulative exit probability (arXiv 2204.03276).

    lambda_n is the head's probability that exit n agrees with the full model, p_n = lambda_n prod_{j<n} (1 - lambda_j),
    and the score is sum_{j<=n} p_j = 1 - prod_{j<=n} (1 - lambda_j). Q-exit leaves at the first exit where it is above
    q. The last exit does not take the remainder, as PALBERT's last layer does: behind it there is the cloud.
    """

    name: ScoreName = "q"

    def __init__(self, heads: Mapping[int, ExitHead]) -> None:
        self._heads = heads

    def __call__(self, trace: Trace) -> float:
        stays = 1.0
        for view in trace:
            stays *= 1.0 - head_says(self._heads, view).agrees
        return 1.0 - stays


def make_score(name: ScoreName, heads: Mapping[int, ExitHead] | None = None) -> Score:
    """The score of that name. Raises ConfigError where it needs heads and there are none."""
    match name:
        case "probability":
            return TopProbability()
        case "entropy":
            return Certainty()
        case "patience":
            return Agreement()
        case "q":
            if not heads:
                raise ConfigError(
                    "The criterion q needs trained exit heads, and the model has none.",
                    remedy="Train them with `updraft train exits`, or choose another criterion.",
                )
            return ExitMass(heads)


def head_says(heads: Mapping[int, ExitHead], view: ExitView) -> HeadSays:
    """What the head of the view's exit says. Raises ConfigError where that exit has none."""
    if view.exit not in heads:
        raise ConfigError(f"Stage {view.exit} has no trained exit head; there are heads for stages {sorted(heads)}.")
    if view.features is None:
        raise ValueError("an exit head needs the exit's features")
    return heads[view.exit](view.features)
