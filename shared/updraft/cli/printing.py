"""Tokens on a terminal, coloured by the tier that wrote them, and the line that sums an answer up."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

import typer

from updraft.agent_wire import completion_to_json
from updraft.cli.effort import ProgressLine, print_solution
from updraft.cli.reporting import stderr
from updraft.errors import ProtocolViolation
from updraft.generation import Completion, GenerationEvent, TokenEvent
from updraft.modes import Origin
from updraft.solution import ProgressEvent

__all__ = ["colour_wanted", "completion_record", "last_of", "show_answer", "summary"]

COLOURS: Final = {Origin.EDGE: typer.colors.GREEN, Origin.CLOUD: typer.colors.CYAN}

# A model can write escape sequences; on a terminal they could do more than show text.
CONTROLS: Final = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}


def colour_wanted(asked: bool | None) -> bool:
    """Whether to colour: as asked, else on a terminal (typer itself heeds NO_COLOR)."""
    return sys.stdout.isatty() if asked is None else asked


def show_answer(events: Iterable[GenerationEvent], *, colour: bool) -> Completion:
    """Print the tokens as they come, and what happens before them, and return the completion."""
    terminal = sys.stdout.isatty()

    def shown() -> Iterator[GenerationEvent]:
        with contextlib.closing(ProgressLine()) as line:
            for event in events:
                if isinstance(event, ProgressEvent):
                    line.take(event)
                    continue
                line.close()
                if isinstance(event, TokenEvent) and event.text:
                    text = event.text.translate(CONTROLS) if terminal else event.text
                    typer.echo(typer.style(text, fg=COLOURS[event.origin]) if colour else text, nl=False, color=colour)
                yield event
        typer.echo()

    return last_of(shown())


def last_of(events: Iterable[GenerationEvent]) -> Completion:
    """The completion, which is the last event. Raises ProtocolViolation if there is none."""
    completion: Completion | None = None
    for event in events:
        completion = event if isinstance(event, Completion) else None
    if completion is None:
        raise ProtocolViolation("The answer ended without its completion.")
    return completion


def completion_record(completion: Completion) -> dict[str, Any]:
    """The completion as a JSON object, with the rates that people ask for."""
    record: dict[str, Any] = json.loads(completion_to_json(completion))
    record["statistics"] |= {
        "cloud_share": completion.statistics.cloud_share,
        "tokens_per_second": completion.statistics.tokens_per_second,
    }
    return record


def summary(completion: Completion, *, colour: bool) -> None:
    """One line on standard error: rate, cloud share, cloud passes a token, early exits, what was tolerated or rewritten
    by the cloud, and whether the cloud was missed."""
    counts = completion.statistics
    passes = counts.cloud_passes / counts.tokens if counts.tokens else 0.0
    parts = [
        f"{counts.tokens} tokens in {counts.seconds:.1f} s",
        # What was drafted while waiting for an absent cloud is committed at once: its rate would say nothing.
        *([] if completion.degraded else [f"{counts.tokens_per_second:.1f} tokens/s"]),
        f"cloud share {counts.cloud_share:.0%}",
        f"{passes:.2f} cloud passes/token",
        *(f"{count} left at layer {layer}" for layer, count in sorted(counts.exit_tokens.items())),
        *([f"{counts.lookup_accepted} looked up"] if counts.lookup_accepted else []),
        *([f"{counts.tolerated} of {counts.accepted} accepted tolerated"] if counts.tolerated else []),
        *([f"{counts.steps_rewritten} of {counts.steps} steps rewritten"] if counts.steps else []),
        completion.mode if completion.chosen is None else f"{completion.mode}: {completion.chosen}",
        f"seed {completion.seed}",
    ]
    console = stderr()
    legend = "[green]edge[/] [cyan]cloud[/] · " if colour else ""
    console.print(f"{legend}[dim]{' · '.join(parts)}[/]", soft_wrap=True)
    print_solution(completion)
    if completion.withheld is not None:
        console.print(f"kept on this device by {completion.withheld}", style="yellow", soft_wrap=True)
    if completion.degraded:
        console.print(
            f"degraded: the edge finished alone ({completion.degraded_reason})", style="yellow", soft_wrap=True
        )
