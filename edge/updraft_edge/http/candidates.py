"""`best_of`: which of a prompt's answers are returned."""

from __future__ import annotations

import math
from collections.abc import Sequence

from updraft.generation import TokenEvent
from updraft_edge.http.plan import Plan

__all__ = ["best"]


def best(plan: Plan, events: Sequence[Sequence[TokenEvent]]) -> list[int]:
    """Places of the answers to return: each prompt's `n` with the highest log-probability a token, the highest first,
    as in OpenAI's API. All, in their order, where no more were written than are returned."""
    if plan.candidates == plan.n:
        return list(range(len(events)))
    places: list[int] = []
    for first in range(0, len(events), plan.candidates):
        group = range(first, first + plan.candidates)
        places += sorted(group, key=lambda place: -_mean(events[place]))[: plan.n]
    return places


def _mean(events: Sequence[TokenEvent]) -> float:
    """Of the answer's tokens; those before it are the prompt's."""
    logprobs = [event.logprob for event in events if event.index >= 0]
    mean = math.fsum(logprobs) / len(logprobs) if logprobs else -math.inf
    return mean if math.isfinite(mean) else -math.inf
