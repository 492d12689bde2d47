"""Views, traces and heads for the tests of early exits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from updraft.exits.heads import ExitHead
from updraft.exits.scores import ExitView
from updraft.sampling import Distribution, measure

__all__ = ["WIDTH", "constant_head", "random_head", "trace_of", "view", "view_of"]

WIDTH = 6


def view(
    stage: int = 0,
    *,
    token: int = 1,
    top: float = 0.5,
    entropy: float = 1.0,
    features: NDArray[np.float32] | None = None,
) -> ExitView:
    return ExitView(stage, token, Distribution(0.0, entropy, top), features)


def trace_of(tokens: list[int]) -> list[ExitView]:
    return [view(stage, token=token) for stage, token in enumerate(tokens)]


def view_of(logits: NDArray[np.float32], stage: int = 0) -> ExitView:
    return ExitView(stage, int(logits.argmax()), measure(logits))


def constant_head(agrees: float, hopeless: float = 0.5) -> ExitHead:
    """Says the same of all features."""
    logits = [np.log(p / (1 - p)) for p in (agrees, hopeless)]
    return ExitHead([np.zeros((2, WIDTH), np.float32)], [np.array(logits, np.float32)])


def random_head(seed: int, *sizes: int) -> ExitHead:
    """Layers of the given sizes over WIDTH features, then two outputs."""
    generator = np.random.default_rng(seed)
    shapes = zip((*sizes, 2), (WIDTH, *sizes), strict=True)
    weights = [generator.normal(size=shape).astype(np.float32) for shape in shapes]
    return ExitHead(weights, [generator.normal(size=len(weight)).astype(np.float32) for weight in weights])
