"""What the edge knows of a token anyway, as numbers that a router reads: never the token itself."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from updraft.sampling import Distribution, Sampled

__all__ = ["PROMPT_FEATURES", "TOKEN_FEATURES", "FeatureWindow", "prompt_features"]

Features = NDArray[np.float32]

TOKEN_FEATURES: Final = (
    "entropy",
    "energy",
    "top_probability",
    "margin",
    "gap",
    "mass",
    "logprob",
    "previous_entropy",
    "previous_margin",
    "entropy_5",
    "energy_5",
    "entropy_16",
    "energy_16",
    "log_position",
    "log_prompt",
)
PROMPT_FEATURES: Final = (
    "entropy",
    "energy",
    "last_entropy",
    "last_energy",
    "last_top_probability",
    "spread_entropy",
    "log_prompt",
)
_LEAST_LOGPROB = -30.0
_MOST_GAP = 12.0
_SHORT, _LONG = 5, 16


class FeatureWindow:
    """Features of an answer's edge tokens in order, with rolling means over the last 5 and 16 of them.

    Args:
        prompt_length: tokens of the prompt.
    """

    def __init__(self, prompt_length: int) -> None:
        self._log_prompt = math.log1p(prompt_length)
        self._recent: deque[Distribution] = deque(maxlen=_LONG)

    def note(self, sampled: Sampled, place: int) -> Features:
        """Features of the next token, float32, shape (len(TOKEN_FEATURES),); `place` is its own in the answer, from 0.

        The token must have been drawn with `Sampler(shape=True)`. Values are as the model gave them: they may be NaN.
        """
        now = sampled.distribution
        before = self._recent[-1] if self._recent else now
        self._recent.append(now)
        recent = list(self._recent)
        short = recent[-_SHORT:]
        return np.array(
            (
                now.entropy,
                now.energy,
                now.top_probability,
                now.margin or 0.0,
                _gap(now),
                now.mass or 0.0,
                max(sampled.logprob, _LEAST_LOGPROB),
                before.entropy,
                before.margin or 0.0,
                sum(d.entropy for d in short) / len(short),
                sum(d.energy for d in short) / len(short),
                sum(d.entropy for d in recent) / len(recent),
                sum(d.energy for d in recent) / len(recent),
                math.log1p(place),
                self._log_prompt,
            ),
            np.float32,
        )

    def restart(self) -> None:
        """The cloud has written: rolling means begin anew."""
        self._recent.clear()


def _gap(distribution: Distribution) -> float:
    """How much more probable the best token is than the second, as a logarithm of at most 12."""
    best = max(distribution.top_probability, 1e-6)
    return min(math.log(best / max(best - (distribution.margin or 0.0), 1e-6)), _MOST_GAP)


def prompt_features(rows: Sequence[Distribution], prompt_length: int) -> Features:
    """Features of a prompt from the distributions after its last tokens, float32, shape (len(PROMPT_FEATURES),).

    Raises ValueError without a row.
    """
    if not rows:
        raise ValueError("a prompt needs at least one row")
    entropies = [row.entropy for row in rows]
    last = rows[-1]
    mean = sum(entropies) / len(rows)
    return np.array(
        (
            mean,
            sum(row.energy for row in rows) / len(rows),
            last.entropy,
            last.energy,
            last.top_probability,
            math.sqrt(sum((entropy - mean) ** 2 for entropy in entropies) / len(rows)),
            math.log1p(prompt_length),
        ),
        np.float32,
    )
