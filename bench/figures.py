"""Arithmetic of measurements: rates, medians with their spread, percentiles, and what an answer's reader saw."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from updraft.generation import Completion, GenerationRequest, Generator

__all__ = ["Observed", "Spread", "observe", "percentile", "rate", "same_answers", "summary", "whole_rate"]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the extremes around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, interpolated; 0 if there are none."""
    return float(np.quantile(values, share)) if values else 0.0


@dataclass(frozen=True, slots=True)
class Observed:
    """An answer as its reader saw it: when each token arrived, in seconds since it was asked for."""

    completion: Completion
    arrivals: tuple[float, ...]

    @property
    def gaps(self) -> list[float]:
        """Seconds between one token and the next; tokens of one verdict arrive together."""
        return [after - before for before, after in pairwise(self.arrivals)]


async def observe(agent: Generator, request: GenerationRequest) -> Observed:
    """Read a whole answer and note when its tokens arrived. Raises what the agent raises."""
    asked = time.perf_counter()
    arrivals: list[float] = []
    async for event in agent.generate(request):
        if isinstance(event, Completion):
            return Observed(event, tuple(arrivals))
        arrivals.append(time.perf_counter() - asked)
    raise RuntimeError("the answer ended without its completion")


def rate(arrivals: Sequence[Sequence[float]]) -> float:
    """Tokens a second after the first token, over several answers; 0 if none has two tokens."""
    tokens = sum(len(times) - 1 for times in arrivals if times)
    seconds = sum(times[-1] - times[0] for times in arrivals if times)
    return tokens / seconds if seconds > 0.0 else 0.0


def whole_rate(arrivals: Sequence[Sequence[float]]) -> float:
    """Tokens a second from the question to the last token, over several answers; 0 without tokens."""
    seconds = sum(times[-1] for times in arrivals if times)
    return sum(map(len, arrivals)) / seconds if seconds > 0.0 else 0.0


def same_answers(answers: Sequence[Observed], reference: Sequence[Observed]) -> int:
    """How many answers have exactly the tokens and the text of the reference at the same place."""
    return sum(
        one.completion.token_ids == other.completion.token_ids and one.completion.text == other.completion.text
        for one, other in zip(answers, reference, strict=True)
    )


def summary(answers: Sequence[Observed]) -> dict[str, Any]:
    """What several answers of one kind cost. Bytes are gRPC messages with their 14 bytes of framing.

    Cloud passes and positions leave out the prompt; one pass that serves several answers counts for each of them.
    """
    counts = [answer.completion.statistics for answer in answers]
    tokens = sum(count.tokens for count in counts)
    drafted = sum(count.drafted for count in counts)
    whole = whole_rate([answer.arrivals for answer in answers])
    gaps = [gap * 1e3 for answer in answers for gap in answer.gaps]

    def per_token(total: int) -> float:
        return total / tokens if tokens else 0.0

    return {
        "answers": len(answers),
        "tokens": tokens,
        "tokens_per_second": rate([answer.arrivals for answer in answers]),
        "wall_ms_per_token": 1e3 / whole if whole else 0.0,
        "first_token_ms": median(answer.arrivals[0] * 1e3 if answer.arrivals else 0.0 for answer in answers),
        "cloud_passes_per_token": per_token(sum(count.cloud_passes for count in counts)),
        "cloud_positions_per_token": per_token(sum(count.cloud_positions for count in counts)),
        "cloud_share": per_token(sum(count.cloud_tokens for count in counts)),
        "accepted_share": sum(count.accepted for count in counts) / drafted if drafted else 0.0,
        "bytes_up_per_token": per_token(sum(count.bytes_up for count in counts)),
        "bytes_down_per_token": per_token(sum(count.bytes_down for count in counts)),
        "gap_p50_ms": percentile(gaps, 0.5),
        "gap_p99_ms": percentile(gaps, 0.99),
        "gap_max_ms": max(gaps, default=0.0),
        "degraded": sum(answer.completion.degraded for answer in answers),
        "reopened": sum(count.reopened for count in counts),
    }
