"""Weights of particles, and which of them go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from updraft.noise import key_of

__all__ = ["EPSILON", "multinomial", "odds_weights", "systematic", "uniforms"]

EPSILON: Final = 1e-4  # rewards are kept this far from 0 and 1, where logarithms end

Floats = NDArray[np.float64]


def odds_weights(rewards: Sequence[float], temperature: float = 1.0) -> Floats:
    """softmax(logit(r) / T), shape (rewards,): at T = 1 a weight is in proportion to the odds r / (1 - r) (particle
    filtering, arXiv 2502.01618, section 3). Rewards are probabilities; they are clipped to [EPSILON, 1 - EPSILON]."""
    clipped = np.clip(np.asarray(rewards, np.float64), EPSILON, 1 - EPSILON)
    logits = (np.log(clipped) - np.log1p(-clipped)) / temperature
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def systematic(weights: Floats, count: int, uniform: float) -> list[int]:
    """Indices of `count` survivors, in order; each index comes floor or ceil of count x weight times, and on average
    over `uniform` in [0, 1) exactly that often (Kitagawa, 1996)."""
    return _places(weights, (np.arange(count) + uniform) / count)


def multinomial(weights: Floats, draws: Floats) -> list[int]:
    """Indices of independent survivors, in order, one for each of `draws` in [0, 1)."""
    return _places(weights, np.sort(draws))


def uniforms(key: int, count: int) -> Floats:
    """Numbers in [0, 1) that follow from the key alone, shape (count,)."""
    return np.array([(key_of(key + index) >> 11) * 2.0**-53 for index in range(count)])


def _places(weights: Floats, points: Floats) -> list[int]:
    found = np.searchsorted(np.cumsum(weights), points, side="right")
    last = int(np.flatnonzero(weights)[-1])  # the sum may fall short of a point by rounding
    return [int(index) for index in np.minimum(found, last)]
