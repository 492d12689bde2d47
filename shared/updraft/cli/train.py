"""`updraft train text|exits|student`, and the group of `updraft train`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from updraft.cli.reporting import examples, reported
from updraft.cli.train_progress import progress_bars
from updraft.errors import InvalidRequest, MissingExtra

if TYPE_CHECKING:
    from updraft.train.job import Job, Progress

__all__ = ["parse_layers", "register"]

TrunkArgument = Annotated[
    str, typer.Argument(metavar="TRUNK", help="The model to make rungs of: a name, a GGUF or a Hugging Face folder.")
]
OutOption = Annotated[
    Path, typer.Option("--out", help="Folder of the run; an interrupted run in it is taken up again.")
]
TextOption = Annotated[
    list[Path] | None,
    typer.Option("--text", help="Text to train on: .jsonl or .jsonl.gz of token ids, .txt or .md. Can be repeated."),
]
PromptsOption = Annotated[
    list[Path] | None,
    typer.Option("--prompts", help="Prompts that the trunk answers first: .jsonl, .json or .txt. Can be repeated."),
]
EpochsOption = Annotated[int, typer.Option("--epochs", min=1, help="Passes over the text.")]
RateOption = Annotated[float, typer.Option("--learning-rate", min=1e-7, max=1.0, help="Peak learning rate.")]
BatchOption = Annotated[int, typer.Option("--batch-tokens", min=64, help="Tokens in a step.")]
LongestOption = Annotated[int, typer.Option("--longest", min=16, help="Tokens of a conversation, at most.")]
HeldOutOption = Annotated[float, typer.Option("--held-out", min=0.001, max=0.5, help="Share of prompts held out.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="Threads of torch and llama.cpp.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto (a GPU if there is one), cpu, cuda, cuda:1, ...")]
LayersHelp = "in order, each once, such as"

_TEXT = Path("text.jsonl")
_MAX_LAYERS = 4096


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Make smaller models of a model, and what decides between two.")
    group.command("text", epilog=examples("updraft train text smollm2 --prompts prompts.jsonl --out text.jsonl"))(text)
    group.command(
        "exits", epilog=examples("updraft train exits smollm2 --layers 8,16 --text text.jsonl --out runs/exits")
    )(exits)
    group.command(
        "student",
        epilog=examples(
            "updraft train student smollm2 --layers 0-3,28,29 --text text.jsonl --out runs/student",
            "updraft train student smollm2 --layers 0-8,27-29 --frozen 8 --prompts prompts.jsonl --out runs/student",
        ),
    )(student)
    from updraft.cli import train_acceptance, train_laboratory, train_moe, train_router

    train_acceptance.register(group)
    train_router.register(group)
    train_moe.register(group)
    train_laboratory.register(group)
    app.add_typer(
        group, name="train", epilog=examples("updraft train exits smollm2 --layers 8,16 --prompts prompts.jsonl")
    )


@reported
def text(
    trunk: TrunkArgument,
    prompts: Annotated[list[Path], typer.Option("--prompts", help="Prompts: .jsonl, .json or .txt. Can be repeated.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write; prompts answered in it are skipped.")] = _TEXT,
    longest: Annotated[int, typer.Option("--longest", min=1, help="Tokens of an answer, at most.")] = 180,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=256, help="Answers written at once.")] = 32,
    context: Annotated[int, typer.Option("--context", min=64, help="Tokens of prompt and answer, at most.")] = 512,
    seed: SeedOption = 0,
    threads: ThreadsOption = 2,
) -> None:
    """Let a model answer prompts, to have text of its own to train on: many at once, temperatures 0 to 1 in turn."""
    from updraft.engine import open_engine
    from updraft.train.write import read_prompts, write_text

    wanted = [prompt for path in prompts for prompt in read_prompts(path)]
    engine = open_engine(trunk, context=context, sequences=at_once, threads=threads)
    try:
        with _progress() as report:
            written = write_text(
                engine,
                wanted,
                out,
                longest=longest,
                seed=seed,
                progress=lambda done, total: report("writing text", done, total, None),
            )
    finally:
        engine.shutdown()
    typer.echo(f"{written:,} tokens written to {out}")


@reported
def exits(
    trunk: TrunkArgument,
    layers: Annotated[str, typer.Option("--layers", help=f"Trunk layers before each exit, {LayersHelp} 8,16.")],
    out: OutOption = Path("runs/exits"),
    texts: TextOption = None,
    prompts: PromptsOption = None,
    epochs: EpochsOption = 4,
    learning_rate: RateOption = 1e-3,
    batch_tokens: BatchOption = 2048,
    longest: LongestOption = 512,
    held_out: HeldOutOption = 0.03,
    seed: SeedOption = 0,
    threads: ThreadsOption = 2,
    device: DeviceOption = "auto",
) -> None:
    """Distil an exit block after some of a model's layers; the trunk stays as it is."""
    chosen = parse_layers(layers)
    job = _job(
        trunk, out, texts, prompts, epochs, learning_rate, batch_tokens, longest, held_out, seed, threads, device
    )
    with _progress() as report:
        from updraft.train.job import train_exits

        paths = train_exits(replace(job, progress=report), chosen)
    for path in paths:
        typer.echo(f"{path}  (card: {path.with_suffix('.md')})")


@reported
def student(
    trunk: TrunkArgument,
    layers: Annotated[str, typer.Option("--layers", help=f"Trunk layers to start from, {LayersHelp} 0-3,28,29.")],
    frozen: Annotated[int, typer.Option("--frozen", min=0, help="First layers that stay the trunk's own.")] = 0,
    out: OutOption = Path("runs/student"),
    texts: TextOption = None,
    prompts: PromptsOption = None,
    epochs: EpochsOption = 4,
    learning_rate: RateOption = 1e-3,
    batch_tokens: BatchOption = 2048,
    longest: LongestOption = 512,
    held_out: HeldOutOption = 0.03,
    seed: SeedOption = 0,
    threads: ThreadsOption = 2,
    device: DeviceOption = "auto",
) -> None:
    """Distil a shallow model that starts as some of a model's layers: a drafter with the same tokenizer."""
    chosen = parse_layers(layers)
    job = _job(
        trunk, out, texts, prompts, epochs, learning_rate, batch_tokens, longest, held_out, seed, threads, device
    )
    with _progress() as report:
        from updraft.train.job import train_student

        path = train_student(replace(job, progress=report), chosen, frozen=frozen)
    typer.echo(f"{path}  (card: {path.with_suffix('.md')})")


def parse_layers(value: str) -> list[int]:
    """Numbers and runs of numbers: `0-3,28,29`. Raises InvalidRequest if they are not in order, each once."""
    layers: list[int] = []
    try:
        for part in value.split(","):
            first, dash, last = part.strip().partition("-")
            low, high = int(first), int(last if dash else first)
            if not 0 <= low <= high < _MAX_LAYERS:
                raise ValueError(part)
            layers += range(low, high + 1)
    except ValueError:
        raise InvalidRequest(f"layers {value!r} are not numbers such as 8,16 or 0-3,28,29", param="layers") from None
    if layers != sorted(set(layers)):
        raise InvalidRequest(f"layers {value!r} must be in order, each once", param="layers")
    return layers


def _job(
    trunk: str,
    out: Path,
    texts: list[Path] | None,
    prompts: list[Path] | None,
    epochs: int,
    learning_rate: float,
    batch_tokens: int,
    longest: int,
    held_out: float,
    seed: int,
    threads: int,
    device: str,
) -> Job:
    """What both kinds of training need; raises MissingExtra without torch."""
    try:
        from updraft.train.distil import Recipe
        from updraft.train.job import Job
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"training needs {error.name}, which is not installed", remedy='pip install "updraft-llm[train]"'
        ) from error
    if not texts and not prompts:
        raise InvalidRequest("there is nothing to train on", remedy="Give --text or --prompts.", param="text")

    return Job(
        trunk,
        out,
        tuple(texts or ()),
        tuple(prompts or ()),
        longest=longest,
        held_out=held_out,
        recipe=Recipe(epochs=epochs, batch_tokens=batch_tokens, learning_rate=learning_rate, seed=seed),
        threads=threads,
        device=device,
    )


def _progress() -> AbstractContextManager[Progress]:
    return progress_bars(
        lambda point: (
            f"epoch {point.epoch:.2f}, loss {point.loss:.3f}, "
            f"agreement {100 * point.agreement:.1f} % of held-out text, {point.seconds / 60:.0f} min"
        )
    )
