"""The beta distribution's function, which posteriors of votes and of accuracies need; the core has no scipy."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["beta_cdf", "log_beta"]

_TINY: Final = 1e-300
_TERMS: Final = 500


def log_beta(a: float, b: float) -> float:
    """Logarithm of Euler's beta function; `a` and `b` are above 0."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def beta_cdf(x: float, a: float, b: float) -> float:
    """The part of Beta(a, b) that is at most x: the regularised incomplete beta function, to about 1e-12.

    Lentz's evaluation of the continued fraction (Abramowitz and Stegun, 26.5.8), on the side where it converges fast.
    """
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - beta_cdf(1.0 - x, b, a)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta(a, b)) / a
    return min(1.0, front * _fraction(x, a, b))


def _fraction(x: float, a: float, b: float) -> float:
    upper, lower = 1.0, 1.0 / _apart(1.0 - (a + b) * x / (a + 1.0))
    value = lower
    for m in range(1, _TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for term in (even, odd):
            lower = 1.0 / _apart(1.0 + term * lower)
            upper = _apart(1.0 + term / upper)
            value *= upper * lower
        if abs(upper * lower - 1.0) < 1e-14:
            break
    return value


def _apart(value: float) -> float:
    """A divisor that is not 0."""
    return value if abs(value) > _TINY else _TINY
