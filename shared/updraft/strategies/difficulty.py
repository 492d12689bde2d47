"""How hard a question is for a model, from a few answers to it: what they say, and how sure the model was of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from updraft.strategies.problem import Sample
from updraft.strategies.tally import tally

__all__ = ["FEATURES", "Difficulty", "features_of", "fit_difficulty"]

FEATURES: Final = ("disagreement", "surprise", "entropy", "doubt", "energy", "edge entropy", "edge energy")

Floats = NDArray[np.float64]


def features_of(
    samples: Sequence[Sample], scores: Sequence[float | None] | None = None, edge: Sequence[Sample] = ()
) -> tuple[float, ...]:
    """What pilot answers tell, in the order of `FEATURES`; all but energies are 0 where all is well.

    - disagreement: what the leading answer lacks of the whole vote; 1 where no answer can be parsed;
    - surprise: less the mean log-probability of the likeliest answer's tokens, nats;
    - entropy: mean entropy of the distributions, nats; of the samples that it was measured for, else 0;
    - doubt: what a verifier's score of the best answer lacks of 1; a half where none judged;
    - energy: mean free energy (E-LANG, arXiv 2203.00748): less the log-sum-exp of the logits, whose zero is the model's
      own;
    - edge entropy, edge energy: the same of the edge's answers; 0 where it gave none, or did not say.
    """
    votes = tally(samples, [1.0] * len(samples))
    disagreement = 1.0 - votes[0].weight if votes else 1.0
    surprise = -max((sample.logprob for sample in samples), default=-10.0)
    known = [score for score in scores or () if score is not None]
    doubt = 1.0 - max(known) if known else 0.5
    (entropy, energy), (edge_entropy, edge_energy) = _unsure(samples), _unsure(edge)
    return disagreement, max(0.0, surprise), entropy, doubt, energy, edge_entropy, edge_energy


def _unsure(samples: Sequence[Sample]) -> tuple[float, float]:
    """Mean entropy and free energy of answers."""
    return _mean([sample.entropy for sample in samples]), 0.0 - _mean([sample.energy for sample in samples])


def _mean(values: Sequence[float | None]) -> float:
    measured = [value for value in values if value is not None]
    return sum(measured) / len(measured) if measured else 0.0


class Difficulty(BaseModel):
    """A logistic model of the chance that a question's leading answer is wrong.

    The default was not fitted: it knows no more than that all features grow with difficulty, and leaves energies out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    intercept: float = -3.0
    weights: tuple[float, float, float, float, float, float, float] = (4.0, 2.0, 2.0, 2.0, 0.0, 1.0, 0.0)

    def of(self, features: Sequence[float]) -> float:
        """0 (easy) to 1."""
        value = self.intercept + sum(w * x for w, x in zip(self.weights, features, strict=True))
        return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, value))))


def fit_difficulty(features: Sequence[Sequence[float]], wrong: Sequence[bool], *, ridge: float = 1e-2) -> Difficulty:
    """Fit by Newton's method on the penalised likelihood (iteratively reweighted least squares).

    Args:
        features: one row a question, as `features_of` gives them.
        wrong: whether the leading answer was.

    Raises:
        ValueError: no rows, or not one label each.
    """
    if not features or len(features) != len(wrong):
        raise ValueError(f"{len(features)} questions with {len(wrong)} labels")
    rows: Floats = np.column_stack([np.ones(len(features)), np.asarray(features, np.float64)])
    labels: Floats = np.asarray(wrong, np.float64)
    penalty = ridge * len(rows) * np.eye(rows.shape[1])
    penalty[0, 0] = 1e-6
    weights: Floats = np.zeros(rows.shape[1])
    for _ in range(50):
        chances = 1.0 / (1.0 + np.exp(-np.clip(rows @ weights, -50, 50)))
        slope = rows.T @ (labels - chances) - penalty @ weights
        curvature = (rows.T * (chances * (1 - chances) + 1e-9)) @ rows + penalty
        step = np.linalg.solve(curvature, slope)
        weights = weights + step
        if np.abs(step).max() < 1e-9:
            break
    intercept, *slopes = (float(value) for value in weights)
    return Difficulty(intercept=intercept, weights=tuple(slopes))  # type: ignore[arg-type]
