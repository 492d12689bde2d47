"""LinUCB with disjoint linear models (Li et al., arXiv 1003.0146, algorithm 1), on top of a prior.

Each arm has a ridge regression of what its rewards were above the prior. With A = I + sum of x x' and b = sum of
x (reward - prior), the estimate is prior + b' A^-1 x and the bound `explore * SPREAD * sqrt(x' A^-1 x)` above it, in
which SPREAD is the spread of rewards that the ridge assumes. Without a history every bound is the same, so the prior
decides. A small share of choices is drawn at random, so that the log can say without a model what other choices would
have brought.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["SPREAD", "Choice", "Estimate", "LinUcb"]

SPREAD: Final = 0.1

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an arm is expected to bring, and how much above that it may be."""

    value: float
    bonus: float


@dataclass(frozen=True, slots=True)
class Choice:
    """An arm's name, its probability of having been chosen, and what was expected of every arm that could be."""

    name: str
    propensity: float
    random: bool
    estimates: dict[str, Estimate]


class _Ridge:
    """One arm's regression; the inverse is kept up by the Sherman-Morrison formula."""

    def __init__(self, width: int) -> None:
        self.inverse: Vector = np.eye(width)
        self.moment: Vector = np.zeros(width)
        self.count = 0

    def learn(self, x: Vector, residual: float) -> None:
        along = self.inverse @ x
        self.inverse -= np.outer(along, along) / (1.0 + float(x @ along))
        self.moment += residual * x
        self.count += 1

    def value(self, x: Vector) -> float:
        return float(self.moment @ self.inverse @ x)

    def width(self, x: Vector) -> float:
        return math.sqrt(max(0.0, float(x @ self.inverse @ x)))


class LinUcb:
    """Learns which arm is best in which context.

    Args:
        width: of the contexts.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._arms: dict[str, _Ridge] = {}

    def estimate(self, name: str, x: Vector, prior: float, *, explore: float = 0.0) -> Estimate:
        arm = self._arms.get(name)
        if arm is None:
            return Estimate(prior, explore * SPREAD * float(np.linalg.norm(x)))
        return Estimate(min(1.0, max(0.0, prior + arm.value(x))), explore * SPREAD * arm.width(x))

    def choose(
        self,
        priors: Mapping[str, float],
        x: Vector,
        *,
        explore: float,
        random_share: float,
        draw: float,
    ) -> Choice:
        """One of the arms that `priors` names; of equals the first.

        Args:
            priors: expected reward of every arm that can be chosen, at least one.
            x: the context, shape (width,).
            explore: width of the bound.
            random_share: share of choices that are drawn with equal chances.
            draw: a number from 0 to 1, below 1, that decides on whether and which.
        """
        estimates = {name: self.estimate(name, x, prior, explore=explore) for name, prior in priors.items()}
        names: Sequence[str] = list(estimates)
        best = max(names, key=lambda name: estimates[name].value + estimates[name].bonus)
        share = 0.0 if len(names) == 1 else random_share
        random = draw < share
        name = names[min(len(names) - 1, int(draw / share * len(names)))] if random else best
        propensity = share / len(names) + (1.0 - share) * (name == best)
        return Choice(name, propensity, random, estimates)

    def learn(self, name: str, x: Vector, residual: float) -> None:
        """What an arm brought above its prior; ignored if it is no number."""
        if math.isfinite(residual) and bool(np.isfinite(x).all()):
            self._arms.setdefault(name, _Ridge(self._width)).learn(x, residual)

    def seen(self, name: str) -> int:
        """How often an arm has been learned from."""
        arm = self._arms.get(name)
        return 0 if arm is None else arm.count
