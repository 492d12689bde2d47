"""`updraft bench strategies`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from updraft.cli.bench import RESULTS, OutOption, SeedOption, run_bench
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, reported

__all__ = ["register"]


class _Subject(StrEnum):
    CLOUD = "lab-cloud"
    EDGE = "lab-edge"
    SMOLLM2 = "smollm2"


def register(group: typer.Typer) -> None:
    """Add the verb to the group `bench`."""
    group.command(
        "strategies",
        epilog=examples(
            "updraft bench strategies",
            "updraft bench strategies --on lab-cloud --questions 24 --fitted 16 --most 16 --search 4",
        ),
    )(strategies)


@reported
def strategies(
    questions: Annotated[int | None, typer.Option(min=4, metavar="N", help="Of the test split.")] = None,
    fitted: Annotated[
        int | None, typer.Option(min=4, metavar="N", help="Of the validation split; the choice is fitted on them.")
    ] = None,
    most: Annotated[
        int | None, typer.Option(min=8, max=256, metavar="N", help="Samples of the largest budget.")
    ] = None,
    search: Annotated[
        list[int] | None,
        typer.Option(
            min=1, max=256, metavar="N", help="Budget of strategies that are run anew for each; may be repeated."
        ),
    ] = None,
    on: Annotated[
        list[_Subject] | None, typer.Option(help="With which models; may be repeated; all when left out.")
    ] = None,
    smollm2: Annotated[int | None, typer.Option(min=1, max=121, metavar="N", help="Questions for SmolLM2.")] = None,
    price: Annotated[
        float | None, typer.Option(min=0, metavar="X", help="What 1000 tokens cost the choice, in right answers.")
    ] = None,
    seed: SeedOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each engine.")] = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Accuracy against generated tokens for every strategy, on the laboratory's models and questions.

    Takes about an hour and a half of one core with the defaults. What is compared: RPC with self-consistency, step-wise
    search with best-of-n at equal tokens, resampling with what false positives predict, the compute-optimal choice with
    the best fixed strategy, edge and cloud together with the cloud alone.
    """
    run_bench(
        "strategies",
        "StrategiesBench",
        out,
        as_json,
        questions=questions,
        fitted=fitted,
        most=most,
        search=search and tuple(search),
        on=on and tuple(subject.value for subject in on),
        smollm2=smollm2,
        price=price,
        seed=seed,
        threads=threads,
    )
