"""Votes among samples: what each final answer weighs, and the outcome that follows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from updraft.routing.votes import count
from updraft.strategies.problem import Alternative, Outcome, Sample
from updraft.strategies.workspace import Workspace
from updraft.verifiers.base import Judgement

__all__ = ["best_first", "conclude", "tally", "verdict_on"]

_NOTHING: Final = Sample("", (), 0.0, None, finished=False)


def tally(
    samples: Sequence[Sample], weights: Sequence[float], scores: Sequence[float | None] | None = None
) -> list[Alternative]:
    """The final answers, the heaviest first; of equals, the one given first. Samples without one do not vote.

    Args:
        weights: one for each sample, 0 or more.
        scores: what a verifier gave each.
    """
    options = count([sample.answer for sample in samples], weights)
    total = math.fsum(option.weight for option in options)
    given = scores or [None] * len(samples)
    found = []
    for option in options:
        best = max(option.members, key=lambda index: (given[index] or 0.0, weights[index], -index))
        weight = option.weight / total if total > 0 else 0.0
        found.append(Alternative(samples[best], weight, len(option.members), given[best]))
    return found


def best_first(alternatives: Sequence[Alternative]) -> list[Alternative]:
    """The alternative with the highest score before the others, which keep their order."""
    if not alternatives:
        return []
    best = max(alternatives, key=lambda alternative: -1.0 if alternative.score is None else alternative.score)
    return [best, *(alternative for alternative in alternatives if alternative is not best)]


def verdict_on(
    alternatives: Sequence[Alternative], samples: Sequence[Sample], judgements: Sequence[Judgement]
) -> bool | None:
    """Whether the first alternative's sample passed the verifier; None where that was not judged."""
    for sample, judgement in zip(samples, judgements, strict=True):
        if alternatives and sample is alternatives[0].sample:
            return None if judgement.score is None else judgement.passed
    return None


def conclude(
    work: Workspace,
    samples: Sequence[Sample],
    alternatives: Sequence[Alternative],
    *,
    confidence: Callable[[Alternative], float] | None = None,
    verified: bool | None = None,
) -> Outcome:
    """The outcome for the first alternative; where no answer can be read, for the first sample, without confidence; for
    an empty one where the budget did not reach for a sample.

    Args:
        confidence: in an alternative; its weight when left out, but of a vote of one: that tells nothing, and the
            probability of its tokens (geometric mean) stands for it.
    """
    best = alternatives[0] if alternatives else None
    return Outcome(
        best.sample if best else next(iter(samples), _NOTHING),
        (confidence or _share)(best) if best else 0.0,
        verified,
        tuple(alternatives),
        sum(sample.answer is None for sample in samples),
        work.ended or "done",
        work.bill(),
        tuple(work.complaints),
    )


def _share(best: Alternative) -> float:
    alone = best.samples == 1 and best.weight == 1.0
    return math.exp(min(0.0, best.sample.logprob)) if alone else best.weight
