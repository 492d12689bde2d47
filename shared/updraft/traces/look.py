"""What page and terminal share: texts made safe to show, shades, and sums over an answer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from updraft.modes import Origin
from updraft.traces.files import AnswerTrace, TraceToken
from updraft.traces.steps import TraceStep

__all__ = ["Placed", "facts", "heat", "milliseconds", "placed", "printable", "size", "stood_share", "title"]

# Controls could act on a terminal, and directional overrides turn the text around them.
_CONTROLS: Final = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000))
    if chr(code) not in "\n\t"
}
_SURE: Final = 1.4  # nats at which the shade is at 63 %


def printable(text: str) -> str:
    """Text without characters that do more than show."""
    return text.translate(_CONTROLS)


def heat(entropy: float | None) -> float:
    """0 for certain, towards 1 for unsure."""
    return 0.0 if entropy is None else 1.0 - math.exp(-max(0.0, entropy) / _SURE)


def title(answer: AnswerTrace) -> str:
    """The mode, and what `auto` made of it."""
    head = answer.head
    return printable(head.mode if head.chosen is None else f"{head.mode} → {head.chosen}")


def milliseconds(value: float) -> str:
    return f"{value / 1e3:.2f} s" if value >= 1000 else f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count} B" if count < 1000 else f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def stood_share(answer: AnswerTrace) -> float | None:
    """Share of the tokens sent for a verdict that stood; None if none were sent."""
    counts = answer.end.statistics
    return counts.accepted / counts.drafted if counts.drafted else None


def facts(answer: AnswerTrace) -> list[tuple[str, str, str]]:
    """The summary: label, value, and a line below."""
    counts = answer.end.statistics
    tokens, stood = max(1, counts.tokens), stood_share(answer)
    waited = counts.waited_seconds / counts.seconds if counts.seconds else 0.0
    found = [
        ("Tokens", f"{counts.tokens}", f"{counts.prompt_tokens} in the prompt"),
        ("Time", milliseconds(counts.seconds * 1e3), f"{counts.tokens_per_second:.1f} tokens/s"),
        ("Cloud wrote", f"{counts.cloud_share:.0%}", f"{counts.cloud_tokens} tokens"),
        ("Passes a token", f"{counts.cloud_passes / tokens:.2f}", f"{counts.cloud_passes} in the cloud"),
        ("Waited", milliseconds(counts.waited_seconds * 1e3), f"{waited:.0%} of the time"),
        ("Sent", size(counts.bytes_up), f"{size(counts.bytes_down)} received"),
    ]
    if stood is not None:
        found.insert(4, ("Drafts that stood", f"{stood:.0%}", f"{counts.accepted} of {counts.drafted} judged"))
    return found


@dataclass(frozen=True, slots=True)
class Placed:
    """A token in its step.

    Attributes:
        step: None where the trace was cut before it.
        first: it is the step's first token.
        replaces: it stands where the step's first rejected token stood.
        stood: it was drafted and is in the answer after the cloud had seen it.
    """

    token: TraceToken
    step: TraceStep | None
    number: int
    first: bool
    replaces: bool
    stood: bool


def placed(answer: AnswerTrace) -> Iterator[Placed]:
    """All tokens of an answer with what was decided on them."""
    steps, number = answer.steps, 0
    for token in answer.tokens:
        while number < len(steps) and token.index >= steps[number].position + steps[number].committed:
            number += 1
        step = steps[number] if number < len(steps) and token.index >= steps[number].position else None
        place = -1 if step is None else token.index - step.position
        yield Placed(
            token,
            step,
            number,
            first=place == 0,
            replaces=step is not None and bool(step.rejected) and place == step.stood,
            stood=token.origin is Origin.EDGE and token.verified,
        )
