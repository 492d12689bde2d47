"""`updraft bench fuzz`."""

from __future__ import annotations

from typing import Annotated

import typer

from updraft.cli.bench import RESULTS, OutOption, run_bench
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, reported

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    group.command(
        "fuzz",
        epilog=examples(
            "updraft bench fuzz --frames 1000000",
            "updraft bench fuzz --target session --first 17 --frames 1000",
        ),
    )(fuzz)


@reported
def fuzz(
    frames: Annotated[int | None, typer.Option(min=1, metavar="N", help="Frames, over all decoders.")] = None,
    target: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this decoder; may be repeated.")
    ] = None,
    first: Annotated[int | None, typer.Option(min=0, metavar="N", help="Number of the first batch of 1,000.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Processes; one a core, 0 for this one.")
    ] = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Frames, messages, states and files that nobody should send, to everything that reads what others wrote.

    Watches memory, open files and the time of each frame. Exit code 1 for a crash, a hang, a leak, or an error that is
    none of Updraft's own.
    """
    run_bench(
        "fuzz",
        "FuzzBench",
        out,
        as_json,
        frames=frames,
        targets=target and tuple(target),
        first=first,
        processes=processes,
    )
