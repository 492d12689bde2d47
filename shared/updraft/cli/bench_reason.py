"""`updraft bench reason`."""

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
    SeedOption,
    TokensOption,
    run_bench,
)
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, reported

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    """Add the verb to the group `bench`."""
    group.command(
        "reason",
        epilog=examples(
            "updraft bench reason --data data", "updraft bench reason --data data --threshold 6 --problems 50"
        ),
    )(reason)


@reported
def reason(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with gsm8k/test.jsonl.")],
    threshold: Annotated[
        list[float] | None,
        typer.Option(min=0.0, max=10.0, metavar="SCORE", help="Least score of a step; may be repeated."),
    ] = None,
    scoring: Annotated[str | None, typer.Option(metavar="NAME", help="average, greedy or likelihood.")] = None,
    problems: Annotated[int | None, typer.Option(min=1, metavar="N", help="Questions.")] = None,
    judged: Annotated[int | None, typer.Option(min=0, metavar="N", help="Worked steps that are graded, too.")] = None,
    tokens: TokensOption = None,
    step_tokens: Annotated[int | None, typer.Option(min=4, metavar="N", help="Longest step, tokens.")] = None,
    round_trip: Annotated[float | None, typer.Option(min=0.0, metavar="MS", help="Round trip of the link.")] = None,
    edge_model: EdgeModelOption = None,
    cloud_model: CloudModelOption = None,
    context: ContextOption = None,
    seed: SeedOption = None,
    pin: PinOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Mode reason on grade-school maths at several thresholds, against the cloud alone and the edge alone.

    Also has the cloud grade steps of worked answers, as they are and with a number changed: does it tell them apart?
    """
    run_bench(
        "reason",
        "ReasonBench",
        out,
        as_json,
        data=data,
        thresholds=threshold and tuple(threshold),
        scoring=scoring,
        problems=problems,
        judged=judged,
        tokens=tokens,
        step_tokens=step_tokens,
        round_trip_ms=round_trip,
        edge_model=edge_model,
        cloud_model=cloud_model,
        context=context,
        seed=seed,
        pin=pin,
    )
