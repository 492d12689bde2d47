"""What the edge's own answers come to: their vote, as a solution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from updraft.modes import Origin
from updraft.routing.votes import Ballot
from updraft.sampling import Sampled
from updraft.solution import Compute, OtherAnswer, Solution
from updraft.strategies.problem import Sample, read_final
from updraft.strategies.tally import tally

__all__ = ["NAME", "voted"]

NAME = "vote"
"""What a solution's strategy is called where the edge's own answers decided."""


def voted(
    ballot: Ballot,
    answers: Sequence[Sequence[Sampled]],
    text: Callable[[Sequence[Sampled]], str],
    *,
    alternatives: bool,
) -> Solution:
    """The solution of a vote among the edge's answers, whose confidence is perplexity consistency's."""
    drawn = sum(map(len, answers))
    return Solution(
        strategy=NAME,
        confidence=ballot.confidence if math.isfinite(ballot.confidence) else None,
        compute=Compute(samples=len(answers), edge_tokens=drawn),
        alternatives=_tallied([_sample(answer, text(answer)) for answer in answers]) if alternatives else (),
    )


def _sample(answer: Sequence[Sampled], text: str) -> Sample:
    mean = sum(sampled.logprob for sampled in answer) / len(answer) if answer else -math.inf
    tokens = tuple(sampled.token for sampled in answer)
    return Sample(text, tokens, mean, read_final(text), origin=Origin.EDGE)


def _tallied(samples: Sequence[Sample]) -> tuple[OtherAnswer, ...]:
    """Every final answer with its part of the vote; a text that comes twice counts once, as in `vote`."""
    first: dict[str, int] = {}
    weights = []
    for index, sample in enumerate(samples):
        new = first.setdefault(sample.text, index) == index
        weights.append(math.exp(min(sample.logprob, 0.0)) if new and not math.isnan(sample.logprob) else 0.0)
    return tuple(
        OtherAnswer(found.sample.text, found.sample.tokens, found.weight, found.samples, Origin.EDGE.value)
        for found in tally(samples, weights)
    )
