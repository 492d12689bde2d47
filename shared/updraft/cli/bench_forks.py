"""`updraft bench forks`."""

from __future__ import annotations

from typing import Annotated

import typer

from updraft.cli.bench import (
    RESULTS,
    ContextOption,
    OutOption,
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
    """Add the verb to the group `bench`."""
    group.command(
        "forks",
        epilog=examples("updraft bench forks", "updraft bench forks --strategy particle-filtering --samples 32"),
    )(forks)


@reported
def forks(
    model: Annotated[list[str] | None, typer.Option(metavar="NAME|FILE", help="May be repeated.")] = None,
    strategy: Annotated[list[str] | None, typer.Option(metavar="NAME", help="May be repeated.")] = None,
    samples: Annotated[
        list[int] | None, typer.Option(min=1, metavar="N", help="Answers, particles or beams; may be repeated.")
    ] = None,
    prompts: PromptsOption = None,
    tokens: TokensOption = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    context: ContextOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the engine.")] = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Branches of one prompt against as many separate requests: positions computed, and memory of caches at its peak.

    Both write the same answers; exit code 1 if they do not. llama.cpp gives every sequence cells of its own, so
    branches are copied there; the last column of memory is what an engine with shared cells would hold.
    """
    run_bench(
        "forks",
        "ForksBench",
        out,
        as_json,
        models=model and tuple(model),
        strategies=strategy and tuple(strategy),
        samples=samples and tuple(samples),
        prompts=prompts,
        tokens=tokens,
        temperature=temperature,
        seed=seed,
        context=context,
        threads=threads,
    )
