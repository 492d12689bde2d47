"""Votes among samples: what each final answer weighs, and the outcome that follows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from updraft.strategies.problem import Alternative, Outcome, Sample
from updraft.strategies.workspace import Workspace

__all__ = ["conclude", "tally"]


def tally(
    samples: Sequence[Sample], weights: Sequence[float], scores: Sequence[float | None] | None = None
) -> list[Alternative]:
    """The final answers, the heaviest first; of equals, the one given first. Samples without one do not vote.

    Args:
        weights: one for each sample, 0 or more.
        scores: what a verifier gave each.
    """
    groups: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        if sample.answer is not None:
            groups.setdefault(sample.answer, []).append(index)
    total = sum(weights[index] for group in groups.values() for index in group)
    given = scores or [None] * len(samples)
    found = []
    for group in groups.values():
        best = max(group, key=lambda index: (given[index] or 0.0, weights[index], -index))
        weight = sum(weights[index] for index in group) / total if total > 0 else 0.0
        found.append(Alternative(samples[best], weight, len(group), given[best]))
    return sorted(found, key=lambda alternative: -alternative.weight)


def conclude(
    work: Workspace,
    samples: Sequence[Sample],
    alternatives: Sequence[Alternative],
    *,
    confidence: Callable[[Alternative], float] | None = None,
    verified: bool | None = None,
) -> Outcome:
    """The outcome for the first alternative; for the first sample, without confidence, where no answer can be read.

    Args:
        confidence: in an alternative; its weight when left out, but of a vote of one: that tells nothing, and the
            probability of its tokens (geometric mean) stands for it.
    """
    best = alternatives[0] if alternatives else None
    return Outcome(
        best.sample if best else samples[0],
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
