"""The response key `updraft`: who wrote each token, and how an answer came about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from updraft.generation import Completion, TokenEvent
from updraft.solution import ProgressEvent, Solution

__all__ = ["LEAST_LOGPROB", "answer_label", "chunk_label", "finite", "progress_label", "token_labels"]

LEAST_LOGPROB = -9999.0
"""Stands for a probability of zero, whose logarithm JSON cannot say; OpenAI's API uses the same value."""


def finite(logprob: float) -> float | None:
    """None stands for NaN: nobody knows how probable the token was."""
    return None if math.isnan(logprob) else max(logprob, LEAST_LOGPROB)


def chunk_label(event: TokenEvent) -> dict[str, Any]:
    """The key's value in a streamed chunk that carries one token."""
    return {
        "origin": event.origin.value,
        "verified": event.verified,
        "layer": event.layer,
        "entropy": None if math.isnan(event.entropy) else event.entropy,
        "token": event.token,
        "index": event.index,
        "seconds": event.seconds,
    }


def progress_label(event: ProgressEvent) -> dict[str, Any]:
    """The key's value in a streamed chunk that tells what happened on the way."""
    told = {key: value for key, value in asdict(event).items() if value not in (None, "")}
    return {"progress": told | {"origin": event.origin.value}}


def _solution_label(solution: Solution, money: float) -> dict[str, Any]:
    """How an answer of the mode `solve` came about."""
    told = asdict(solution)
    told["cost"] = told.pop("compute") | {"money": money}
    if not solution.alternatives:
        del told["alternatives"]
    return told


def answer_label(completion: Completion) -> dict[str, Any]:
    """The key's value in the last chunk of a choice."""
    statistics = completion.statistics
    if_any = {
        "chosen": completion.chosen,
        "routed": completion.routed,
        "trace": completion.trace and asdict(completion.trace),
    }
    return {
        "mode": completion.mode,
        **{key: value for key, value in if_any.items() if value is not None},
        **({} if completion.solution is None else _solution_label(completion.solution, statistics.cost)),
        "degraded": completion.degraded,
        "degraded_reason": completion.degraded_reason,
        "withheld": completion.withheld,
        "seed": completion.seed,
        "cloud_share": statistics.cloud_share,
        "statistics": asdict(statistics) | {"tokens_per_second": statistics.tokens_per_second},
    }


def token_labels(events: Sequence[TokenEvent]) -> dict[str, Any]:
    """What a whole answer's value holds besides: one object a token."""
    tokens = [
        {
            "token": event.token,
            "text": event.text,
            "origin": event.origin.value,
            "verified": event.verified,
            "layer": event.layer,
            "entropy": None if math.isnan(event.entropy) else event.entropy,
            "logprob": finite(event.logprob),
        }
        for event in events
        if event.index >= 0  # the others are the prompt's
    ]
    return {"tokens": tokens}
