"""Answers as a bench would have observed them, made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.figures import Observed
from updraft.generation import Completion, Statistics

__all__ = ["answer", "completion"]


def completion(tokens: Sequence[int], *, text: str | None = None, degraded: bool = False, **counts: Any) -> Completion:
    """A completion; `counts` are fields of its statistics."""
    written = "".join(chr(97 + token) for token in tokens) if text is None else text
    statistics = Statistics(tokens=len(tokens), **counts)
    return Completion(written, list(tokens), "length", "draft", "updraft", 0, degraded=degraded, statistics=statistics)


def answer(tokens: Sequence[int], arrivals: Sequence[float] | None = None, **options: Any) -> Observed:
    """An observed answer; its tokens arrive a second apart unless told."""
    times = range(1, len(tokens) + 1) if arrivals is None else arrivals
    return Observed(completion(tokens, **options), tuple(map(float, times)))
