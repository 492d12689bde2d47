"""`updraft train moe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from updraft.cli.reporting import examples, reported
from updraft.cli.train_progress import progress_bars
from updraft.errors import MissingExtra

__all__ = ["register"]

_OUT = Path("runs/moe")


def register(group: typer.Typer) -> None:
    group.command(
        "moe",
        epilog=examples(
            "updraft train moe --data text.jsonl.gz --data questions.jsonl --out runs/moe",
            "updraft train moe --data ./text --out runs/moe --foreign wiki.txt --drafter smollm2-student",
        ),
    )(moe)


@reported
def moe(
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            help="Text to train on: a folder, or a file of token ids, of questions and answers, or plain. Can be "
            "repeated; what is given twice counts twice.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the run; an interrupted run in it is taken up again.")
    ] = _OUT,
    trunk: Annotated[str, typer.Option("--trunk", help="The model that lends its vocabulary: a name or GGUF.")] = (
        "smollm2"
    ),
    layers: Annotated[int, typer.Option("--layers", min=1, max=64, help="Layers, all with experts.")] = 8,
    width: Annotated[int, typer.Option("--width", min=16, help="Of the hidden states.")] = 256,
    heads: Annotated[int, typer.Option("--heads", min=1, help="Attention heads.")] = 4,
    kv_heads: Annotated[int, typer.Option("--kv-heads", min=1, help="Heads for keys and values.")] = 2,
    experts: Annotated[int, typer.Option("--experts", min=2, max=256, help="Experts of a layer.")] = 16,
    active: Annotated[int, typer.Option("--active", min=1, help="Experts that a token chooses.")] = 2,
    hidden: Annotated[int, typer.Option("--hidden", min=8, help="Hidden units of an expert.")] = 192,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Steps; can be changed until the learning rate falls.")
    ] = 2000,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows of --longest tokens in a step.")] = 4,
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=1e-7, max=1.0, help="Highest one.")] = 3e-3,
    balance: Annotated[float, typer.Option("--balance", min=0.0, help="Push towards using all experts alike.")] = 0.01,
    longest: Annotated[int, typer.Option("--longest", min=16, help="Tokens of a row: the model's context.")] = 512,
    held_out: Annotated[
        float, typer.Option("--held-out", min=0.001, max=0.5, help="Share of prompts held out.")
    ] = 0.03,
    foreign: Annotated[
        list[Path] | None, typer.Option("--foreign", help="Other text to measure on only. Can be repeated.")
    ] = None,
    drafters: Annotated[
        list[str] | None,
        typer.Option("--drafter", help="A model to measure as a drafter for it at the end. Can be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")] = 0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of torch and llama.cpp.")] = 1,
) -> None:
    """Train a small mixture of experts in a model's vocabulary: a subject whose routing was learned from text."""
    try:
        from updraft.train.moe.job import MoeJob, MoeSizes, train_moe
        from updraft.train.moe.loop import MoeRecipe
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"training needs {error.name}, which is not installed", remedy='pip install "updraft-llm[train]"'
        ) from error
    sizes = MoeSizes(layers, width, heads, kv_heads, hidden, experts, active)
    recipe = MoeRecipe(steps=steps, rows=rows, learning_rate=learning_rate, balance=balance, seed=seed)
    with progress_bars(
        lambda p: (
            f"step {p.step:,}, loss {p.loss:.3f}, held out {p.held_out:.3f}, imbalance {p.imbalance:.2f}, "
            f"{p.seconds / 60:.0f} min"
        )
    ) as report:
        path = train_moe(
            MoeJob(
                trunk,
                out,
                tuple(data),
                sizes,
                recipe,
                longest=longest,
                held_out=held_out,
                foreign=tuple(foreign or ()),
                drafters=tuple(drafters or ()),
                threads=threads,
                progress=report,
            )
        )
    typer.echo(f"{path}  (card: {path.with_suffix('.md')})")
