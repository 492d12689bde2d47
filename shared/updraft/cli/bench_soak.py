"""`updraft bench soak`."""

from __future__ import annotations

from typing import Annotated

import typer

from updraft.cli.bench import RESULTS, EdgeModelOption, OutOption, TokensOption, run_bench
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, reported

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    group.command("soak", epilog=examples("updraft bench soak --minutes 60"))(soak)


@reported
def soak(
    minutes: Annotated[float | None, typer.Option(min=0.01, metavar="M", help="How long.")] = None,
    lanes: Annotated[int | None, typer.Option(min=1, metavar="N", help="Answers at once.")] = None,
    tokens: TokensOption = None,
    first: Annotated[int | None, typer.Option(min=0, metavar="SEED", help="Seed of the first schedule.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Cloud model; tiny for tiny ones of both tiers.")
    ] = None,
    edge_model: EdgeModelOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Answers over links that go wrong, for as long as you like: memory, open files, threads and KV caches stay flat.

    Both processes of a real cloud and the agents' own are sampled. Exit code 1 if anything grows, is left, or is wrong.
    """
    run_bench(
        "soak",
        "SoakBench",
        out,
        as_json,
        minutes=minutes,
        lanes=lanes,
        tokens=tokens,
        first=first,
        model=model,
        edge_model=edge_model,
    )
