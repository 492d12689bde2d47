"""`--trace FILE`: keeps what an answer came to while it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from updraft.generation import Completion, TokenEvent
from updraft.traces.files import AnswerTrace, TraceWriter

__all__ = ["traced"]


def traced(events: Iterator[TokenEvent | Completion], path: Path, prompt: str) -> Iterator[TokenEvent | Completion]:
    """The same events; the completion's trace goes to the file, not on.

    Raises:
        ConfigError: the file cannot be written, before the first event is asked for.
    """
    return _following(events, TraceWriter(path), prompt)


def _following(
    events: Iterator[TokenEvent | Completion], writer: TraceWriter, prompt: str
) -> Iterator[TokenEvent | Completion]:
    seen: list[TokenEvent] = []
    for event in events:
        if isinstance(event, Completion):
            writer.add(AnswerTrace.of(prompt, seen, event))
            event.trace = None
        else:
            seen.append(event)
        yield event
