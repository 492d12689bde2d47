"""`updraft calibrate` with `exits` below it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from updraft.cli.calibrate_modes import EPILOG
from updraft.cli.calibrate_modes import calibrate as calibrate_modes
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported, stderr
from updraft.errors import ConfigError, MissingExtra, ModelNotFound, UnknownName

if TYPE_CHECKING:
    from rich.table import Table

    from updraft.engine.base import StagedEngine
    from updraft.exits.calibration import ExitCalibration
    from updraft.exits.collect import Observations, Passage
    from updraft.exits.report import ThresholdRow
    from updraft.exits.scores import ScoreName

__all__ = ["register"]

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True)
    group.callback(invoke_without_command=True, epilog=EPILOG)(calibrate_modes)
    group.command(
        "exits",
        epilog=examples(
            "updraft calibrate exits ./smollm2-staged --text text.jsonl",
            "updraft calibrate exits ./smollm2-staged --text notes.txt --criterion entropy --json",
        ),
    )(exits)
    app.add_typer(group, name="calibrate")


@reported
def exits(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Staged model of `updraft models export`.")],
    text: Annotated[
        list[Path], typer.Option("--text", help="Text: .jsonl or .jsonl.gz of token ids, .txt or .md. Can be repeated.")
    ],
    positions: Annotated[int, typer.Option(min=200, max=10_000_000, help="Tokens to look at, at most.")] = 20_000,
    longest: Annotated[int, typer.Option(min=16, max=1_048_576, help="Longest passage, tokens.")] = 512,
    held_out: Annotated[float, typer.Option(min=0.05, max=0.9, help="Share of the text kept for the report.")] = 0.25,
    criterion: Annotated[
        str, typer.Option(metavar="NAME", help="probability, entropy, patience or q: whose thresholds are shown.")
    ] = "probability",
    temperature: Annotated[float, typer.Option(min=0, max=100, help="Calibrate for answers at this temperature.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Chooses passages and noise.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, max=512, help="Threads; one a core when left out.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the reliability plot goes.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit calibration.json: from the scores of a staged model's exits to the probability of agreeing with the model.

    The shares and agreements that it prints are of text that it was not fitted on.
    """
    from updraft.exits.aids import exit_heads
    from updraft.exits.job import calibrate, split_passages
    from updraft.exits.report import threshold_table

    chosen = _score(criterion)
    engine = _open(folder, longest, threads)
    try:
        exits = {number for number, stage in enumerate(engine.stages) if stage.blocks}
        if chosen == "q" and not exit_heads(engine).keys() >= exits:
            raise ConfigError("The criterion q needs a trained head for every exit; the model lacks some.")
        passages = _passages(engine, text, longest)
        with _progress(positions) as progress:
            calibration, judged = calibrate(
                engine,
                *split_passages(passages, held_out, seed),
                positions=positions,
                held_out=held_out,
                temperature=temperature,
                seed=seed,
                progress=progress,
            )
        rows = threshold_table(calibration, judged, chosen, THRESHOLDS, engine.info.layers)
    finally:
        engine.shutdown()
    found = _Found(calibration, judged, chosen, rows)
    path = calibration.save(folder)
    picture = _draw(found, plot or folder / "calibration.png", asked=plot is not None)
    if as_json:
        print_json(found.record() | {"calibration": str(path), "plot": picture and str(picture)})
        return
    found.show()
    typer.echo(
        f"{path} was fitted on {calibration.facts['positions']:,} tokens, the tables are of {len(judged):,} others."
    )
    if picture:
        typer.echo(f"{picture} shows how reliable the probabilities are.")


class _Found:
    """What the calibration is worth on text that it was not fitted on."""

    def __init__(
        self, calibration: ExitCalibration, judged: Observations, score: ScoreName, rows: list[ThresholdRow]
    ) -> None:
        from updraft.exits.report import exit_qualities

        self.calibration = calibration
        self.judged = judged
        self.score = score
        self.rows = rows
        self.qualities = exit_qualities(calibration, judged)

    def record(self) -> dict[str, Any]:
        rows = [asdict(row) for row in self.rows]
        for row in rows:
            row["agreement"] = None if math.isnan(row["agreement"]) else row["agreement"]
        return {
            "facts": dict(self.calibration.facts),
            "judged": len(self.judged),
            "exits": [asdict(quality) for quality in self.qualities],
            "criterion": self.score,
            "layers": list(self.judged.layers),
            "thresholds": rows,
        }

    def show(self) -> None:
        from rich.console import Console

        console = Console()
        for table in (self._exits(), self._thresholds()):
            console.print(table)
            console.print()

    def _exits(self) -> Table:
        table = _table("exit", "score", "agrees", "error as it is", "error calibrated")
        for quality in self.qualities:
            raw = "-" if quality.raw_error is None else f"{quality.raw_error:.3f}"
            table.add_row(
                f"layer {quality.layer}", quality.score, f"{quality.agreement:.1%}", raw, f"{quality.error:.3f}"
            )
        return table

    def _thresholds(self) -> Table:
        exits = [f"leave at {layer}" for layer in self.judged.layers]
        table = _table("threshold", *exits, "leave", "agree", "layers computed")
        for row in self.rows:
            agree = "-" if math.isnan(row.agreement) else f"{row.agreement:.1%}"
            shares = [f"{share:.1%}" for share in (*row.leaves, sum(row.leaves))]
            table.add_row(f"{row.threshold:g}", *shares, agree, f"{row.depth:.1%}")
        return table


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in ("exit", "score") else "right")
    return table


def _score(name: str) -> ScoreName:
    from updraft.exits.scores import SCORES

    found = [score for score in SCORES if score == name]
    if not found:
        raise UnknownName(f"There is no exit criterion {name!r}; there are {', '.join(SCORES)}.", param="criterion")
    return found[0]


def _open(folder: Path, context: int, threads: int | None) -> StagedEngine:
    from updraft.engine import StagedEngine, open_engine

    if not folder.is_dir():
        raise ModelNotFound(f"{folder} is no folder.", remedy="Make a staged model with `updraft models export`.")
    engine = open_engine(folder, context=context, sequences=1, threads=threads)
    if not isinstance(engine, StagedEngine):
        engine.shutdown()
        raise ConfigError(f"{folder} holds no staged model.", remedy="Make one with `updraft models export`.")
    return engine


def _passages(engine: StagedEngine, text: list[Path], longest: int) -> list[Passage]:
    from updraft.exits.collect import Passage
    from updraft.train.conversations import read_conversations

    found = read_conversations(text, vocabulary=engine.info.vocabulary, longest=longest, tokenizer=engine.tokenizer)
    return [Passage((*one.prompt, *one.response), max(0, len(one.prompt) - 1)) for one in found]


@contextlib.contextmanager
def _progress(positions: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal."""
    from rich.progress import Progress

    console = stderr()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("running the model over the text", total=positions)
        yield lambda done: bar.update(task, completed=done)


def _draw(found: _Found, path: Path, *, asked: bool) -> Path | None:
    """The reliability plot; None without matplotlib, if nobody asked for it."""
    from updraft.exits.plot import plot_reliability

    title = f"Exit criterion {found.score}, {len(found.judged):,} held-out tokens"
    try:
        plot_reliability(found.calibration, found.judged, found.score, path, title=title)
    except MissingExtra:
        if asked:
            raise
        return None
    return path
