"""Perplexity consistency: how far samples of an answer agree, each weighted by how probable the model finds it.

RPC (NeurIPS 2025), sections 3.2 and 3.3: the weight of a sample is exp(mean log-probability of its tokens); samples of
equal answers add up, identical ones count once; the confidence is the best answer's part of the whole. Reasoning
pruning (`updraft.strategies.pruning`) needs more samples than an edge draws, so `vote` does without.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Ballot", "Option", "count", "final_answer", "path_probability", "path_weights", "vote"]

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


@dataclass(frozen=True, slots=True)
class Option:
    """A final answer in a vote: its weight, and the indices of the samples that gave it."""

    answer: str
    weight: float
    members: tuple[int, ...]


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


def path_probability(logprob: float) -> float:
    """exp(mean log-probability), 0 to 1; 0 where it is not finite."""
    return math.exp(min(logprob, 0.0)) if math.isfinite(logprob) else 0.0


def path_weights(texts: Sequence[str], logprobs: Sequence[float]) -> list[float]:
    """exp(mean log-probability) of each sample, 0 to 1. Of identical texts only the first weighs anything, as much as
    the heaviest of them; a log-probability that is not finite weighs nothing.

    Args:
        logprobs: mean of each sample's tokens, nats.
    """
    weights = [path_probability(value) for value in logprobs]
    first: dict[str, int] = {}
    distinct = [0.0] * len(weights)
    for index, (text, weight) in enumerate(zip(texts, weights, strict=True)):
        at = first.setdefault(text, index)
        distinct[at] = max(distinct[at], weight)
    return distinct


def count(answers: Sequence[str | None], weights: Sequence[float]) -> list[Option]:
    """The vote: the heaviest answer first; of equals, the one given first. None does not vote.

    Args:
        answers: final answers, in a form that equal ones share.
        weights: one for each, 0 or more.
    """
    groups: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        if answer is not None:
            groups.setdefault(answer, []).append(index)
    options = [
        Option(answer, math.fsum(weights[index] for index in members), tuple(members))
        for answer, members in groups.items()
    ]
    return sorted(options, key=lambda option: -option.weight)


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
    weights = path_weights(texts, logprobs)
    options = count([final_answer(text) for text in texts], weights)
    best, total = options[0], math.fsum(weights)
    winner = 0 if best.members[0] == 0 else max(best.members, key=lambda index: weights[index])
    return Ballot(winner, best.weight / total if total > 0 else 0.0)
