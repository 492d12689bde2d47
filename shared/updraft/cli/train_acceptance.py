"""`updraft train acceptance`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported, stderr
from updraft.errors import MissingExtra

if TYPE_CHECKING:
    from updraft.train.acceptance_job import Trained

__all__ = ["register"]

_DATA_TEXT = ("onpolicy_smollm2/text.jsonl.gz",)
_DATA_PROMPTS = ("gsm8k/train.jsonl", "instruct_dolly2000/dolly_train.json")
_OUT = Path("acceptance-head.safetensors")


def register(group: typer.Typer) -> None:
    group.command(
        "acceptance",
        epilog=examples(
            "updraft train acceptance smollm2-q4_0 smollm2 --text text.jsonl --out head.safetensors",
            "updraft serve edge --set acceptance_head=head.safetensors --set mode.stop.predictor=head",
        ),
    )(acceptance)


@reported
def acceptance(
    edge: Annotated[str, typer.Argument(metavar="EDGE", help="The model that drafts: a name or a GGUF file.")],
    cloud: Annotated[str, typer.Argument(metavar="CLOUD", help="The model that judges: a name or a GGUF file.")],
    out: Annotated[Path, typer.Option("--out", help="The head's file.")] = _OUT,
    texts: Annotated[
        list[Path] | None,
        typer.Option("--text", help="Text that the cloud's model wrote: .jsonl or .jsonl.gz of token ids. Repeatable."),
    ] = None,
    prompts: Annotated[
        list[Path] | None,
        typer.Option("--prompts", help="Prompts that it answers first: .jsonl, .json or .txt. Repeatable."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder of data sets, where neither is given: on-policy text, or prompts, of it."),
    ] = None,
    conversations: Annotated[int, typer.Option("--conversations", min=8, help="Conversations, at most.")] = 300,
    longest: Annotated[int, typer.Option("--longest", min=32, help="Tokens of a conversation, at most.")] = 320,
    held_out: Annotated[float, typer.Option("--held-out", min=0.01, max=0.5, help="Share of prompts held out.")] = 0.15,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the positions.")] = 12,
    narrow: Annotated[int, typer.Option("--narrow", min=4, max=4096, help="Width inside of the head.")] = 64,
    blocks: Annotated[int, typer.Option("--blocks", min=0, max=16, help="Residual blocks.")] = 2,
    rejected_weight: Annotated[
        float, typer.Option("--rejected-weight", min=0.1, max=100.0, help="How much more a rejected token weighs.")
    ] = 6.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")] = 0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of torch and llama.cpp.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Train a head that predicts from the drafter's hidden state whether the cloud lets a token stand (SpecDec++).

    Prints its accuracy, area under the curve and log loss on held-out prompts, against the calibrated confidence.
    """
    try:
        from updraft.train.acceptance import HeadRecipe
        from updraft.train.acceptance_job import AcceptanceJob, train_acceptance
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"training needs {error.name}, which is not installed", remedy='pip install "updraft-llm[train]"'
        ) from error
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    if data is not None and not texts and not prompts:
        texts = [data / name for name in _DATA_TEXT if (data / name).is_file()]
        prompts = [] if texts else [data / name for name in _DATA_PROMPTS]
    recipe = HeadRecipe(narrow=narrow, blocks=blocks, epochs=epochs, rejected_weight=rejected_weight, seed=seed)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=stderr()) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)

        trained = train_acceptance(
            AcceptanceJob(
                edge,
                cloud,
                out,
                tuple(texts or ()),
                tuple(prompts or ()),
                conversations=conversations,
                longest=longest,
                held_out=held_out,
                recipe=recipe,
                threads=threads,
                progress=report,
            )
        )
    _show(trained, as_json)


def _show(trained: Trained, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(trained), "path": str(trained.path)})
        return
    table = Table(
        title=f"{trained.positions:,} positions learned from; {trained.held_out:,} held out, "
        f"{trained.stood:.1%} of which stand",
        title_justify="left",
    )
    for heading in ("predictor", "accuracy", "AUC", "log loss", "calibration error"):
        table.add_column(heading, justify="left" if heading == "predictor" else "right")
    for name, found in trained.qualities.items():
        figures = (found.accuracy, found.auc, found.log_loss, found.calibration_error)
        table.add_row(name, *(f"{value:.3f}" for value in figures))
    Console(highlight=False).print(table)
    typer.echo(str(trained.path))
