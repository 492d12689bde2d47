"""`updraft bench batching`: the bench of shared passes."""

from __future__ import annotations

from typing import Annotated

import typer

from updraft.cli.bench import (
    RESULTS,
    ContextOption,
    OutOption,
    RoundsOption,
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
        "batching",
        epilog=examples(
            "updraft bench batching",
            "updraft bench batching --sessions 4 --sessions 8 --draft 5 --rounds 15",
        ),
    )(batching)


@reported
def batching(
    sessions: Annotated[
        list[int] | None, typer.Option(min=1, max=50, metavar="N", help="Sessions in a pass; may be repeated.")
    ] = None,
    draft: Annotated[
        list[int] | None, typer.Option(min=1, max=48, metavar="N", help="Length of drafts; may be repeated.")
    ] = None,
    passes: Annotated[int | None, typer.Option(min=2, metavar="N", help="Passes that a loop makes at a time.")] = None,
    rounds: RoundsOption = None,
    depth: Annotated[int | None, typer.Option(min=1, metavar="N", help="Tokens in the caches before.")] = None,
    tokens: TokensOption = None,
    temperature: TemperatureOption = None,
    model: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Cloud model.")] = None,
    context: ContextOption = None,
    pass_tokens: Annotated[int | None, typer.Option(min=16, metavar="N", help="Positions in a pass, at most.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each engine; one a core when left out.")
    ] = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """The engine's throughput with several sessions in a pass, against a bare llama.cpp loop on the same batches.

    Both take turns in one run. Then real sessions write and have drafts judged, without a network: what scheduling
    takes of a pass, and what sampling and answering cost a row of logits. Exit code 1 if a single logit differs.
    """
    run_bench(
        "batching",
        "BatchingBench",
        out,
        as_json,
        sessions=sessions and tuple(sessions),
        drafts=draft and tuple(draft),
        passes=passes,
        rounds=rounds,
        depth=depth,
        tokens=tokens,
        temperature=temperature,
        model=model,
        context=context,
        pass_tokens=pass_tokens,
        threads=threads,
    )
