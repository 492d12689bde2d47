"""`updraft bench calibration`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from updraft.cli.bench import RESULTS, OutOption, SeedOption, run_bench
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, reported

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    group.command(
        "calibration",
        epilog=examples(
            "updraft bench calibration --results cascade.results.jsonl",
            "updraft bench calibration --results a.results.jsonl --results b.results.jsonl --level 0.1 --delta 0.05",
        ),
    )(calibration)


@reported
def calibration(
    results: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="The .results.jsonl that `updraft calibrate` left; may be repeated."),
    ] = None,
    metric: Annotated[str | None, typer.Option(metavar="NAME", help="disagreement, rejected or mismatch.")] = None,
    level: Annotated[
        list[float] | None, typer.Option(min=0.0, max=1.0, metavar="X", help="Promised level; may be repeated.")
    ] = None,
    delta: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="1 less the confidence.")] = None,
    resamplings: Annotated[int | None, typer.Option(min=1, help="Splits into calibrated and held-out prompts.")] = None,
    fitted: Annotated[float | None, typer.Option(min=0.1, max=0.9, help="Share of prompts calibrated on.")] = None,
    seed: SeedOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Whether calibrated settings keep their promise on prompts that were held out, against the measured mean.

    Exit code 1 if the promise about the held-out prompts was kept in fewer than 95 of 100 resamplings.
    """
    run_bench(
        "calibration",
        "CalibrationBench",
        out,
        as_json,
        results=results and tuple(results),
        metric=metric,
        levels=level and tuple(level),
        delta=delta,
        resamplings=resamplings,
        fitted=fitted,
        seed=seed,
    )
