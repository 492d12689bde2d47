"""Reasoning pruning of RPC (NeurIPS 2025): which samples are improbable enough to be left out of a vote.

A mixture of two Weibull distributions is fitted to the samples' probabilities p = exp(mean log-probability); what more
likely belongs to the lower one and is below the mean goes. Too few samples for a fit are held against the mean alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mixture", "Weibull", "fit_mixture", "surviving"]

_FEWEST: Final = 20  # for a mixture
_FEW: Final = 4  # below this number nothing can be told apart from a mean
_SHARE: Final = (0.2, 0.8)  # of the first component; RPC's bounds
_SHAPE: Final = (0.05, 200.0)
_ROUNDS: Final = 300

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weibull:
    """With density (k / s) (x / s)^(k-1) exp(-(x / s)^k); `shape` is k, `scale` is s."""

    shape: float
    scale: float

    @property
    def mean(self) -> float:
        return self.scale * math.gamma(1.0 + 1.0 / self.shape)

    def log_density(self, logs: Floats) -> Floats:
        """At values above 0, given by their logarithms."""
        height = self.shape * (logs - math.log(self.scale))
        density: Floats = math.log(self.shape) + height - logs - np.exp(np.minimum(height, 700.0))
        return density


@dataclass(frozen=True, slots=True)
class Mixture:
    """Two components; `share` is the part of the first, and the first has the larger mean."""

    share: float
    first: Weibull
    second: Weibull

    def log_densities(self, logs: Floats) -> Floats:
        """Of each component with its share, shape (2, values)."""
        parts = ((self.share, self.first), (1.0 - self.share, self.second))
        return np.stack([math.log(share) + component.log_density(logs) for share, component in parts])

    def posterior(self, values: Sequence[float]) -> Floats:
        """How probably each value, above 0, comes from the first component."""
        return _responsibilities(self.log_densities(np.log(np.asarray(values, float))))

    def log_likelihood(self, values: Sequence[float]) -> float:
        """Mean over the values, nats."""
        return float(np.logaddexp(*self.log_densities(np.log(np.asarray(values, float)))).mean())


def surviving(probabilities: Sequence[float]) -> list[bool]:
    """Which samples stay in the vote; the most probable one always does.

    Args:
        probabilities: exp(mean log-probability) of each sample, 0 to 1.
    """
    if len(probabilities) < _FEW:
        return [True] * len(probabilities)
    values = np.asarray(probabilities, float)
    low = values < values.mean() * (1.0 - 1e-12)
    if len(values) >= _FEWEST:
        positive = values > 0.0
        if positive.sum() >= _FEWEST and np.unique(values[positive]).size > 2:
            low[positive] &= fit_mixture(values[positive].tolist()).posterior(values[positive].tolist()) < 0.5
    return [not dropped for dropped in low.tolist()]


def fit_mixture(values: Sequence[float]) -> Mixture:
    """Maximum likelihood by expectation maximisation, from RPC's start and within its bounds of the share.

    Args:
        values: above 0, not all equal.
    """
    logs = np.log(np.asarray(values, float))
    share, components = 0.5, (Weibull(1.0, 1.0), Weibull(1.5, 2.0))
    before = -math.inf
    for _ in range(_ROUNDS):
        densities = Mixture(share, *components).log_densities(logs)
        likelihood = float(np.logaddexp(*densities).mean())
        if likelihood - before < 1e-9:
            break
        before = likelihood
        belongs = _responsibilities(densities)
        share = min(max(float(belongs.mean()), _SHARE[0]), _SHARE[1])
        components = (
            _fit_one(logs, belongs, components[0].shape),
            _fit_one(logs, 1.0 - belongs, components[1].shape),
        )
    first, second = components
    return Mixture(share, first, second) if first.mean >= second.mean else Mixture(1.0 - share, second, first)


def _responsibilities(densities: Floats) -> Floats:
    part: Floats = np.exp(densities[0] - np.logaddexp(densities[0], densities[1]))
    return part


def _fit_one(logs: Floats, weights: Floats, shape: float) -> Weibull:
    """Weighted maximum likelihood of one component.

    The shape k is the root of sum(w x^k ln x) / sum(w x^k) - 1/k - mean(ln x), which rises in k: Newton's method within
    a bracket, from the last `shape`. The scale follows as (sum(w x^k) / sum(w))^(1/k).
    """
    total = float(weights.sum())
    if total < 1e-12:
        return Weibull(shape, math.exp(float(logs.max())))
    middle = float(weights @ logs) / total
    shares = np.log(np.maximum(weights, 1e-300))
    low, high = _SHAPE
    for _ in range(60):
        powers = np.exp(shares + shape * logs - np.logaddexp.reduce(shares + shape * logs))
        mean = float(powers @ logs)
        spread = float(powers @ (logs - mean) ** 2)
        slope = mean - 1.0 / shape - middle
        low, high = (shape, high) if slope < 0.0 else (low, shape)
        step = shape - slope / (spread + 1.0 / shape**2)
        step = step if low < step < high else (low + high) / 2.0
        if abs(step - shape) < 1e-10 * shape:
            break
        shape = step
    size = float(np.logaddexp.reduce(shares + shape * logs)) - math.log(total)
    return Weibull(shape, math.exp(size / shape))
