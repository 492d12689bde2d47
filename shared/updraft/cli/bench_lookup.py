"""`updraft bench lookup`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from updraft.cli.bench import (
    RESULTS,
    CloudModelOption,
    ContextOption,
    EdgeModelOption,
    OutOption,
    PinOption,
    TemperatureOption,
    TokensOption,
    run_bench,
)
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, reported

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    """Add the verb to the group `bench`."""
    group.command(
        "lookup",
        epilog=examples(
            "updraft bench lookup --data data", "updraft bench lookup --data data --task rag --round-trip 40 --each 5"
        ),
    )(lookup)


@reported
def lookup(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with spec_bench/question.jsonl; else built-in prompts.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(metavar="TASK", help="Task of Spec-Bench, such as rag; may be repeated.")
    ] = None,
    way: Annotated[
        list[str] | None, typer.Option(metavar="WAY", help="Only this way besides the baseline; may be repeated.")
    ] = None,
    round_trip: Annotated[
        list[float] | None, typer.Option(min=0.0, metavar="MS", help="Round trip of the link; may be repeated.")
    ] = None,
    each: Annotated[int | None, typer.Option(min=1, metavar="N", help="Prompts of every task.")] = None,
    tokens: TokensOption = None,
    temperature: TemperatureOption = None,
    longest_prompt: Annotated[int | None, typer.Option(min=8, metavar="N", help="Tokens of a prompt, at most.")] = None,
    edge_model: EdgeModelOption = None,
    cloud_model: CloudModelOption = None,
    context: ContextOption = None,
    pin: PinOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Drafts that are looked up in prompt and past answers, alone and before the edge's model, against the cloud alone.

    With one branch a verdict, several, and as many as measured costs say. Exit code 1 if a single answer is not the
    cloud's. Writes a table, a JSON file and a plot.
    """
    run_bench(
        "lookup",
        "LookupBench",
        out,
        as_json,
        data=data,
        tasks=task and tuple(task),
        ways=way and tuple(way),
        round_trips_ms=round_trip and tuple(round_trip),
        each=each,
        tokens=tokens,
        temperature=temperature,
        longest_prompt=longest_prompt,
        edge_model=edge_model,
        cloud_model=cloud_model,
        context=context,
        pin=pin,
    )
