"""`updraft bench faults`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from updraft.cli.bench import RESULTS, EdgeModelOption, OutOption, TokensOption, run_bench
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, reported

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    group.command(
        "faults",
        epilog=examples(
            "updraft bench faults --schedules 10000",
            "updraft bench faults --model smollm2 --schedules 200",
            "updraft bench faults --replay bench/results/faults.json",
        ),
    )(faults)


@reported
def faults(
    schedules: Annotated[int | None, typer.Option(min=1, metavar="N", help="Random schedules of faults.")] = None,
    first: Annotated[int | None, typer.Option(min=0, metavar="SEED", help="Seed of the first schedule.")] = None,
    tokens: TokensOption = None,
    lanes: Annotated[int | None, typer.Option(min=1, metavar="N", help="Answers at once in each process.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, metavar="N", help="Processes; one a core.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Cloud model, in processes that are killed; tiny for none.")
    ] = None,
    edge_model: EdgeModelOption = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A schedule, or the file of a run that failed.")
    ] = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Answers while the link and the cloud fail on schedule: is each the text that it is without faults?

    Frames and bytes are cut, stalled, dropped, doubled, swapped, garbled and misdelivered; failpoints strike the cloud.
    With a model, processes are killed, too. Exit code 1 if a token is lost or changed.
    """
    run_bench(
        "faults",
        "FaultsBench",
        out,
        as_json,
        schedules=schedules,
        first=first,
        tokens=tokens,
        lanes=lanes,
        processes=processes,
        model=model,
        edge_model=edge_model,
        replay=replay,
    )
