"""`updraft train router`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported, stderr
from updraft.errors import InvalidRequest, MissingExtra

__all__ = ["register"]

_OUT = Path("router.safetensors")


def register(group: typer.Typer) -> None:
    group.command(
        "router",
        epilog=examples(
            "updraft train router --log verdicts.jsonl --out router.safetensors",
            "updraft train router --data ./data --edge smollm2-q4_0 --cloud smollm2 --prompts 300",
            "updraft serve edge --set router=router.safetensors",
        ),
    )(router)


@reported
def router(
    logs: Annotated[
        list[Path] | None,
        typer.Option("--log", help="Verdicts of an agent with edge.verdict_log. Can be repeated."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of data sets: the pair answers its training prompts first.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The router's file; its card goes beside it.")] = _OUT,
    edge: Annotated[str, typer.Option("--edge", help="With --data: the edge's model.")] = "smollm2-q4_0",
    cloud: Annotated[str, typer.Option("--cloud", help="With --data: the cloud's model.")] = "smollm2",
    prompts: Annotated[int, typer.Option("--prompts", min=8, help="With --data: how many prompts.")] = 300,
    longest: Annotated[int, typer.Option("--longest", min=16, help="With --data: tokens of an answer, at most.")] = 128,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=64, help="With --data: answers at once.")] = 4,
    threads: Annotated[int, typer.Option("--threads", min=1, help="With --data: threads of each tier.")] = 1,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the verdicts.")] = 30,
    held_out: Annotated[float, typer.Option("--held-out", min=0.05, max=0.5, help="Share of answers held out.")] = 0.2,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Train a router for one pair from logged verdicts: what of the edge's text would the cloud reject?

    Prints how well it tells rejected tokens from others on held-out answers, against entropy and other scores.
    """
    from updraft.routing.verdict_log import read_verdicts
    from updraft.train.router import RouterRecipe, train_router

    given = list(logs or ())
    if data is not None:
        log = out.with_suffix(".verdicts.jsonl")
        _collect(edge, cloud, data, log, prompts, longest, at_once, threads, seed)
        given.append(log)
    if not given:
        raise InvalidRequest("there is nothing to train on", remedy="Give --log or --data.", param="log")
    recipe = RouterRecipe(epochs=epochs, held_out=held_out, seed=seed)
    card = train_router(read_verdicts(given), out, recipe)
    _show(card, out, as_json)


def _collect(
    edge: str, cloud: str, data: Path, log: Path, prompts: int, longest: int, at_once: int, threads: int, seed: int
) -> None:
    """Let the pair answer, with a bar on standard error."""
    from updraft.train.verdicts import VerdictJob, collect_verdicts, training_prompts

    try:
        import updraft_edge.agent  # noqa: F401  # its libraries, before anything is started
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"collecting verdicts needs {error.name}, which is not installed",
            remedy='pip install "updraft-llm[edge,cloud]"',
        ) from error
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    job = VerdictJob(
        edge, cloud, log, training_prompts(data, prompts), longest=longest, at_once=at_once, seed=seed, threads=threads
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr()) as bars:
        task = bars.add_task("answering prompts", total=len(job.prompts))
        asyncio.run(collect_verdicts(job, lambda done, total: bars.update(task, completed=done, total=total)))


def _show(card: dict[str, Any], out: Path, as_json: bool) -> None:
    if as_json:
        print_json({**card, "path": str(out)})
        return
    tokens, rejected = card["tokens"], card["rejected"]["held_out"]
    table = Table(
        title=f"{tokens['training']:,} verdicts learned from; {tokens['held_out']:,} held out, {rejected:.1%} rejected",
        title_justify="left",
    )
    for heading in ("score", "AUC against rejection", "95 % interval"):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for name, figures in card["auc"].items():
        if figures["area"] is None:
            table.add_row(name, "-", "-")
            continue
        low, high = figures["interval"]
        table.add_row(name, f"{figures['area']:.3f}", "-" if low is None else f"{low:.3f} to {high:.3f}")
    if card["prompt_auc"] is not None:
        table.add_row("prompt, against many rejections", f"{card['prompt_auc']:.3f}", "")
    Console().print(table)
    typer.echo(f"{out}  (card: {out.with_suffix('.json')})")
