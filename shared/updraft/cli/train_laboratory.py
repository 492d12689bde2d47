"""`updraft train laboratory`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from updraft.cli.reporting import examples, reported
from updraft.cli.train_progress import progress_bars
from updraft.errors import MissingExtra

__all__ = ["register"]

_OUT = Path("runs/laboratory")


class _Choice(StrEnum):
    EDGE = "edge"
    CLOUD = "cloud"
    REWARD = "reward"
    ALL = "all"


def register(group: typer.Typer) -> None:
    group.command(
        "laboratory",
        epilog=examples(
            "updraft train laboratory --out runs/laboratory",
            "updraft train laboratory --out runs/laboratory --part reward",
        ),
    )(laboratory)


@reported
def laboratory(
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the run; an interrupted run in it is taken up again.")
    ] = _OUT,
    scale: Annotated[
        float,
        typer.Option(
            "--scale", min=0.001, max=100, help="Times the steps of the shipped models; 0.01 for a look at how it goes."
        ),
    ] = 1.0,
    part: Annotated[
        _Choice, typer.Option("--part", help="Which model; reward needs the two others in --out.")
    ] = _Choice.ALL,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")] = 0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of torch.")] = 1,
) -> None:
    """Train the laboratory's models from nothing: edge and cloud for arithmetic in steps, and a reward model."""
    try:
        import torch

        from updraft.train.laboratory.job import PARTS, LabJob, train_laboratory
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"training needs {error.name}, which is not installed", remedy='pip install "updraft-llm[train]"'
        ) from error
    torch.set_num_threads(threads)
    parts = PARTS if part is _Choice.ALL else tuple(one for one in PARTS if one == part.value)
    with progress_bars(lambda p: f"step {p.step:,}, loss {p.loss:.3f}, {p.seconds / 60:.1f} min") as report:
        made = train_laboratory(LabJob(out, parts, scale, seed, progress=report))
    for path in made:
        typer.echo(f"{path}  (card: {path.with_suffix('.md')})")
