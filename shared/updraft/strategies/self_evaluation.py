"""Self-evaluation: would the model do better if it started over? Asked in the middle of an answer or at its end.

Adaptive Inference-Time Compute (arXiv 2410.02725): nothing is written, only the row of logits after the question is
read. Models that were not trained for it are badly calibrated, hence Platt's scaling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from updraft.engine.base import Engine, Tokenizer
from updraft.errors import ConfigError
from updraft.strategies.prompts import follow_up
from updraft.verifiers.base import Reader

__all__ = ["QUESTION", "Platt", "SelfEvaluation", "answer_tokens"]

QUESTION: Final = 'Would you do better if you started over? ("Yes." or "No.")'

Platt = tuple[float, float]
"""Slope and offset: a probability p becomes 1 / (1 + exp(-(slope * logit(p) + offset)))."""


def answer_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The tokens that "Yes" and "No" begin with, in their usual spellings.

    Raises:
        ConfigError: the vocabulary cannot tell the two apart by their first token.
    """
    yes, no = ({tokenizer.encode(spelt)[0] for spelt in _spellings(word)} for word in ("Yes", "No"))
    if not yes - no or not no - yes:
        raise ConfigError(
            "In this model's vocabulary Yes and No begin with the same token, so it cannot judge itself.",
            remedy="Choose the judge logprob or verifier.",
        )
    return sorted(yes - no), sorted(no - yes)


def _spellings(word: str) -> list[str]:
    return [word, " " + word, word.lower(), " " + word.lower()]


@dataclass(frozen=True, slots=True)
class SelfEvaluation:
    """Asks a model about its own answers.

    Args:
        reader: reads log-probabilities from the model of `engine`.
        platt: scaling of the probabilities; None leaves them as they are.
    """

    reader: Reader
    engine: Engine
    platt: Platt | None = None

    async def scores(self, texts: Sequence[Sequence[int]]) -> list[float | None]:
        """For each text, a prompt and its answer so far without an end token: the probability of No, 0 to 1, among Yes
        and No. None for one that leaves the engine's context no room for the question."""
        yes, no = answer_tokens(self.engine.tokenizer)
        question = follow_up(self.engine, QUESTION)
        room = self.engine.context - len(question)
        asked = [index for index, text in enumerate(texts) if len(text) <= room]
        rows = await self.reader.choices([[*texts[index], *question] for index in asked], [*yes, *no])
        found: list[float | None] = [None] * len(texts)
        for index, row in zip(asked, rows.astype(np.float64), strict=True):
            found[index] = self._scaled(np.logaddexp.reduce(row[len(yes) :]) - np.logaddexp.reduce(row[: len(yes)]))
        return found

    def _scaled(self, logit: float) -> float:
        slope, offset = self.platt or (1.0, 0.0)
        height = min(max(slope * logit + offset, -700.0), 700.0)
        return 1.0 / (1.0 + math.exp(-height))
