"""Answers as traces hold them, for tests."""

from __future__ import annotations

from typing import Any

from updraft.generation import Statistics
from updraft.modes import Origin
from updraft.traces.files import FORMAT, AnswerTrace, TraceEnd, TraceHead, TraceToken
from updraft.traces.steps import DraftedToken, TraceStep

__all__ = ["answer_trace", "drafted"]


def drafted(*texts: str) -> list[DraftedToken]:
    return [DraftedToken(100 + place, text, -0.5, 0.75, 0.6) for place, text in enumerate(texts)]


def answer_trace(texts: tuple[str, ...] = ("The", " sky", " is", " blue"), **head: Any) -> AnswerTrace:
    """A draft of `texts` of which all but the last stood, and an end without a draft before it."""
    given: dict[str, Any] = {"version": FORMAT, "updraft": "1.2.3", "written": "2026-01-01T00:00:00+00:00"}
    given |= {"prompt": "Why?", "mode": "draft", "chosen": None, "edge": "small", "cloud": "large", "seed": 7}
    given |= {"settings": {"mode": "draft"}} | head
    count = len(texts)
    stood = drafted(*texts[:-1], " green", " today")
    steps = [TraceStep(0, "verify", stood, count - 1, count, 0.01, 0.05, 42.0, 60, 80, 1, count + 1)]
    tokens = [
        TraceToken(place, 100 + place, text, Origin.EDGE if place < count - 1 else Origin.CLOUD, True, 0.5, -0.1, 0.05)
        for place, text in enumerate(texts)
    ]
    counts = Statistics(prompt_tokens=5, tokens=count, edge_tokens=count - 1, cloud_tokens=1, drafted=count + 1)
    counts.accepted, counts.cloud_passes, counts.seconds, counts.waited_seconds = count - 1, 1, 0.2, 0.042
    return AnswerTrace(TraceHead(**given), steps, tokens, TraceEnd("stop", None, False, counts))
