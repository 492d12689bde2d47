"""`--trace FILE`: keeps what an answer came to while it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from updraft.generation import Completion, GenerationEvent, TokenEvent
from updraft.traces.files import AnswerTrace, TraceWriter

__all__ = ["traced"]


def traced(events: Iterator[GenerationEvent], path: Path, prompt: str) -> Iterator[GenerationEvent]:
    """The same events; the completion's trace goes to the file, not on.

    Raises:
        ConfigError: the file cannot be written, before the first event is asked for.
    """
    return _following(events, TraceWriter(path), prompt)


def _following(events: Iterator[GenerationEvent], writer: TraceWriter, prompt: str) -> Iterator[GenerationEvent]:
    seen: list[TokenEvent] = []
    for event in events:
        if isinstance(event, Completion):
            writer.add(AnswerTrace.of(prompt, seen, event))
            event.trace = None
        elif isinstance(event, TokenEvent):
            seen.append(event)
        yield event
