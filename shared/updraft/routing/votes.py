"""Perplexity consistency: how far samples of an answer agree, each weighted by how probable the model finds it.

RPC (NeurIPS 2025), sections 3.2 and 3.3: the weight of a sample is exp(mean log-probability of its tokens); samples of
equal answers add up, identical ones count once; the confidence is the best answer's part of the whole. The Weibull
mixture of reasoning pruning cannot be fitted to as few samples as an edge draws, so only the vote is taken over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Ballot", "final_answer", "vote"]

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_MARKED = re.compile(r"(?:####|answer\s*(?:is|:)|\\boxed\{)\s*(.+)", re.IGNORECASE)
_WORDS = re.compile(r"[^\w\s]+")


@dataclass(frozen=True, slots=True)
class Ballot:
    """Outcome of a vote.

    Attributes:
        winner: index of the sample that is kept.
        confidence: the best answer's part of all weights, 0 to 1.
    """

    winner: int
    confidence: float


def final_answer(text: str) -> str:
    """What samples are compared by: the last number in what is marked as the answer, or in the last line; else the
    last line in lower case without punctuation. Empty for a text without words."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if not lines:
        return ""
    marked = _MARKED.findall(text)
    last = marked[-1] if marked else lines[-1]
    numbers = _NUMBER.findall(last) or (_NUMBER.findall(text) if marked else [])
    if numbers:
        value = float(numbers[-1].replace(",", ""))
        return f"{value:g}" if abs(value) < 1e6 else f"{value:.10g}"
    return " ".join(_WORDS.sub(" ", last.lower()).split())


def vote(texts: Sequence[str], logprobs: Sequence[float]) -> Ballot:
    """The winner among samples: the first one (the request's own) if its answer wins, else the likeliest that does.

    Args:
        texts: the samples.
        logprobs: mean log-probability of each one's tokens, nats; one that is not finite weighs nothing.

    Raises:
        ValueError: there is no sample, or not one log-probability each.
    """
    if not texts or len(texts) != len(logprobs):
        raise ValueError(f"{len(texts)} samples with {len(logprobs)} log-probabilities")
    weights = [math.exp(min(value, 0.0)) if math.isfinite(value) else 0.0 for value in logprobs]
    answers = [final_answer(text) for text in texts]
    totals: dict[str, float] = {}
    distinct: dict[tuple[str, str], float] = {}
    for text, answer, weight in zip(texts, answers, weights, strict=True):
        distinct[text, answer] = max(weight, distinct.get((text, answer), 0.0))
    for (_, answer), weight in distinct.items():
        totals[answer] = totals.get(answer, 0.0) + weight
    best = max(totals, key=lambda answer: (totals[answer], answer == answers[0]))
    total = sum(totals.values())
    members = [index for index, answer in enumerate(answers) if answer == best]
    winner = 0 if members[0] == 0 else max(members, key=lambda index: weights[index])
    return Ballot(winner, totals[best] / total if total > 0 else 0.0)
