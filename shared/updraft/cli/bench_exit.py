"""`updraft bench exit`."""

from __future__ import annotations

from typing import Annotated

import typer

from updraft.cli.bench import (
    RESULTS,
    ContextOption,
    OutOption,
    PinOption,
    PromptsOption,
    SeedOption,
    TemperatureOption,
    TokensOption,
    run_bench,
)
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, reported

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    group.command(
        "exit",
        epilog=examples("updraft bench exit", "updraft bench exit --model ./staged --threshold 0.8 --carry int8"),
    )(early_exit)


@reported
def early_exit(
    model: Annotated[str | None, typer.Option(metavar="NAME|DIR", help="Staged model of both tiers.")] = None,
    threshold: Annotated[
        list[float] | None, typer.Option(min=0.0, max=1.0, metavar="P", help="Confidence; may be repeated.")
    ] = None,
    carry: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE", help="Precision of hidden states, such as int8; may be repeated."),
    ] = None,
    split: Annotated[int | None, typer.Option(min=0, metavar="N", help="Stage after which they go up.")] = None,
    criterion: Annotated[str | None, typer.Option(metavar="NAME", help="probability, entropy, patience or q.")] = None,
    calibrated: Annotated[
        bool | None, typer.Option("--calibrated", help="Thresholds are calibrated probabilities of agreeing.")
    ] = None,
    prompts: PromptsOption = None,
    tokens: TokensOption = None,
    round_trip: Annotated[float | None, typer.Option(min=0.0, metavar="MS", help="Round trip of the link.")] = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    context: ContextOption = None,
    pin: PinOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Mode exit at several thresholds, hidden states or token ids going up, against the cloud alone and the edge alone.

    Exit code 1 if an answer at threshold 1 is not the text of the same staged model run whole. Writes tables, a JSON
    file and a plot.
    """
    run_bench(
        "exit",
        "ExitBench",
        out,
        as_json,
        model=model,
        thresholds=threshold and tuple(threshold),
        carries=carry and tuple(carry),
        split=split,
        criterion=criterion,
        calibrated=calibrated,
        prompts=prompts,
        tokens=tokens,
        round_trip_ms=round_trip,
        temperature=temperature,
        seed=seed,
        context=context,
        pin=pin,
    )
