"""Cross-entropy over a large vocabulary, most of it by a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Classes", "SampledClasses", "cross_entropy"]


@dataclass(frozen=True, slots=True)
class Classes:
    """The tokens that one step's logits are computed of.

    Attributes:
        ids: int64, shape (classes,).
        offsets: float32, (classes,): added to the logits, the logarithm of how many tokens each class stands for.
        targets: int64, as the step's targets: their places among the classes.
    """

    ids: NDArray[np.int64]
    offsets: NDArray[np.float32]
    targets: NDArray[np.int64]


class SampledClasses:
    """All frequent tokens and the step's own ones as they are, and a uniform sample of the others in their place.

    The sum in the softmax is so an unbiased estimate; with as many frequent tokens as there are it is exact.

    Args:
        counts: of each token in the training text.
        frequent: how many tokens always count.
        sampled: how many of the others stand for all of them.
    """

    def __init__(self, counts: NDArray[np.int64], frequent: int, sampled: int, seed: int) -> None:
        self._frequent = np.argsort(-counts, kind="stable")[:frequent]
        self._vocabulary, self._sampled, self._seed = len(counts), sampled, seed

    def of(self, step: int, targets: NDArray[np.int64]) -> Classes:
        exact = np.union1d(self._frequent, targets)
        others = np.setdiff1d(np.arange(self._vocabulary), exact, assume_unique=True)
        count = min(self._sampled, len(others))
        drawn = np.random.default_rng([self._seed, step]).choice(others, count, replace=False)
        offsets = np.zeros(len(exact) + count, np.float32)
        offsets[len(exact) :] = np.log(len(others) / count) if count else 0.0
        return Classes(np.concatenate([exact, drawn]), offsets, np.searchsorted(exact, targets))


def cross_entropy(logits: Tensor, classes: Classes) -> Tensor:
    """Mean over positions; logits of `classes.ids`, shape (positions, classes)."""
    offsets = torch.from_numpy(classes.offsets).to(logits.device)
    return F.cross_entropy(logits + offsets, torch.from_numpy(classes.targets.reshape(-1)).to(logits.device))
