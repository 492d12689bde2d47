"""`updraft bench auto`."""

from __future__ import annotations

from typing import Annotated

import typer

from updraft.cli.bench import (
    RESULTS,
    CloudModelOption,
    ContextOption,
    EdgeModelOption,
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
        "auto",
        epilog=examples(
            "updraft bench auto", "updraft bench auto --round-trip 0 --round-trip 80 --mode edge --mode draft"
        ),
    )(auto)


@reported
def auto(
    round_trip: Annotated[
        list[float] | None, typer.Option(min=0.0, metavar="MS", help="Round trip of the link; may be repeated.")
    ] = None,
    mode: Annotated[
        list[str] | None, typer.Option(metavar="MODE", help="What it may choose from; may be repeated.")
    ] = None,
    prompts: PromptsOption = None,
    tokens: TokensOption = None,
    rounds: Annotated[int | None, typer.Option(min=8, metavar="N", help="Choices of each replay.")] = None,
    repetitions: Annotated[int | None, typer.Option(min=1, metavar="N", help="Replays in other orders.")] = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    edge_model: EdgeModelOption = None,
    cloud_model: CloudModelOption = None,
    context: ContextOption = None,
    pin: PinOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Mode auto against every fixed choice, chance and the oracle: regret over real answers of every arm.

    Every prompt is answered by every arm over every link; the bandit's choices are replayed over these, so what it did
    not choose is known, too. Writes tables, a JSON file and a plot.
    """
    run_bench(
        "auto",
        "AutoBench",
        out,
        as_json,
        round_trips_ms=round_trip and tuple(round_trip),
        modes=mode and tuple(mode),
        prompts=prompts,
        tokens=tokens,
        rounds=rounds,
        repetitions=repetitions,
        temperature=temperature,
        seed=seed,
        edge_model=edge_model,
        cloud_model=cloud_model,
        context=context,
        pin=pin,
    )
