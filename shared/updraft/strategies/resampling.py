"""What drawing until a verifier passes can reach (Inference Scaling fLaws, Stroebl et al., arXiv 2411.17501).

A right answer passes with probability t, a wrong one with f. On a problem where a sample is right with probability p,
a try passes right with tp, passes wrong with f(1-p) and is refused with r = 1 - tp - f(1-p). After K tries, where a
refused one stands if none passed,

    accuracy(K) = tp (1 - r^K) / (1 - r) + r^(K-1) p (1 - t),      ceiling = tp / (tp + f(1-p)).

Problems differ in p, and those that are not passed soon are the hard ones, on which a pass is likely to be a wrong one.
So p is a distribution: a beta distribution of the measured accuracy, or what was measured on each of several problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from updraft.strategies.beta import beta_cdf

__all__ = ["MOST_TRIES", "Resampling"]

MOST_TRIES: Final = 1024
_CELLS: Final = 64
_CONCENTRATION: Final = 2.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Resampling:
    """The model of one verifier on one kind of problem.

    Attributes:
        false_positive: part of wrong answers that pass.
        true_positive: part of right answers that pass.
        rates: single-sample accuracies of problems, shape (problems,).
        shares: how frequent each is, shape (problems,), sum 1.
    """

    false_positive: float
    true_positive: float
    rates: Floats
    shares: Floats

    @classmethod
    def of_accuracy(
        cls,
        accuracy: float,
        false_positive: float,
        true_positive: float = 1.0,
        *,
        concentration: float = _CONCENTRATION,
    ) -> Resampling:
        """From the mean accuracy of single samples, above 0 and below 1. The larger the concentration of the beta
        distribution, the more alike the problems; 2 at an accuracy of 1/2 is the uniform distribution."""
        a, b = accuracy * concentration, (1.0 - accuracy) * concentration
        edges = np.linspace(0.0, 1.0, _CELLS + 1)
        shares = np.diff([beta_cdf(edge, a, b) for edge in edges])
        moments = accuracy * np.diff([beta_cdf(edge, a + 1.0, b) for edge in edges])
        kept = shares > 0.0
        return cls(false_positive, true_positive, np.clip(moments[kept] / shares[kept], 0.0, 1.0), shares[kept])

    @classmethod
    def of_problems(cls, accuracies: Sequence[float], false_positive: float, true_positive: float = 1.0) -> Resampling:
        """From the accuracy on each of some problems."""
        rates = np.asarray(accuracies, float)
        return cls(false_positive, true_positive, rates, np.full(len(rates), 1.0 / len(rates)))

    @property
    def ceiling(self) -> float:
        """Accuracy of accepting the first pass, however long that takes; where nothing ever passes, it is 0."""
        right, wrong = self.true_positive * self.rates, self.false_positive * (1.0 - self.rates)
        passed = right + wrong
        return float(self.shares @ np.divide(right, passed, out=np.zeros_like(right), where=passed > 0.0))

    def accuracy(self, tries: int) -> float:
        """Predicted accuracy after at most `tries` samples, at least 1."""
        return float(self._accuracies(np.array([tries]))[0])

    def gain(self, tries: int) -> float:
        """What the sample after `tries` refused ones adds to the accuracy of the problems that get so far; may be
        negative. It falls with `tries` as these problems become the hard ones."""
        return float(self._gains(np.array([tries]))[0])

    def trust(self, tries: int) -> float:
        """The probability that an answer is right that passed as the `tries`-th, after the others were refused."""
        waited = self.shares * self._waiting(np.array([tries]))[0]
        right = float(waited @ (self.true_positive * self.rates))
        passed = right + float(waited @ (self.false_positive * (1.0 - self.rates)))
        return right / passed if passed > 0.0 else 0.0

    def enough(self, slack: float) -> int:
        """The fewest tries whose predicted accuracy is within `slack` of the most that any number of them reaches."""
        accuracies = self._accuracies(np.arange(1, MOST_TRIES + 1))
        return int(np.argmax(accuracies >= accuracies.max() - slack)) + 1

    def worth(self, price: float, tokens: float) -> int:
        """The number of tries after which a further one gains less than it costs.

        Args:
            price: accuracy per 1000 tokens.
            tokens: that one sample takes.
        """
        poor = self._gains(np.arange(1, MOST_TRIES)) < price * tokens / 1000.0
        return int(np.argmax(poor)) + 1 if poor.any() else MOST_TRIES

    def _accuracies(self, tries: NDArray[np.int64]) -> Floats:
        refused, right = self._refused, self.true_positive * self.rates
        powers = refused ** tries[:, None]
        waited = np.divide(1.0 - powers, 1.0 - refused, out=np.ones_like(powers) * tries[:, None], where=refused < 1.0)
        fallback = refused ** (tries[:, None] - 1) * self.rates * (1.0 - self.true_positive)
        found: Floats = (right * waited + fallback) @ self.shares
        return found

    def _gains(self, tries: NDArray[np.int64]) -> Floats:
        refused = self._refused
        waited = self._waiting(tries)
        added = waited * self.rates * (refused - 1.0 + self.true_positive) @ self.shares
        got_there = waited * refused @ self.shares
        return np.divide(added, got_there, out=np.zeros_like(added), where=got_there > 0.0)

    def _waiting(self, tries: NDArray[np.int64]) -> Floats:
        """How probably each problem gets to a try, in parts of the one that does most probably: no power underflows
        there. Shape (tries, problems)."""
        refused = self._refused
        parts: Floats = (refused / max(float(refused.max()), 1e-300)) ** (tries[:, None] - 1)
        return parts

    @property
    def _refused(self) -> Floats:
        passed: Floats = self.true_positive * self.rates + self.false_positive * (1.0 - self.rates)
        return np.clip(1.0 - passed, 0.0, 1.0)
