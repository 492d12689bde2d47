"""`updraft auto`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from updraft.cli.options import ConfigOption, JsonOption
from updraft.cli.reporting import examples, print_json, reported, stderr
from updraft.errors import ConfigError, MissingExtra, UnknownName

if TYPE_CHECKING:
    from rich.table import Table

    from updraft.auto.history import Record
    from updraft.auto.regret import LogSummary

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Look at what the mode `auto` has chosen and learned.")
    group.command(
        "show",
        epilog=examples(
            "updraft auto show",
            "updraft auto show --goal cost --last 40",
            "updraft auto show --out regret.png",
        ),
    )(show)
    app.add_typer(group, name="auto", epilog=examples("updraft auto show"))


@reported
def show(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="History of an agent; the configured one when left out.")
    ] = None,
    goal: Annotated[
        str | None,
        typer.Option(metavar="GOAL", help="balanced, quality, latency or cost; the last choice's by itself."),
    ] = None,
    last: Annotated[int, typer.Option(min=0, max=10_000, metavar="N", help="Choices to list.")] = 12,
    out: Annotated[Path | None, typer.Option("--out", metavar="PNG", help="Draw the cumulative regret.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The log of the mode auto: contexts, choices, what was expected and obtained, and how good the choices were.

    What other choices would have brought is estimated, by the model in hindsight and by inverse propensity from the
    share of choices that are drawn at random; the first is as wrong as the model is, the second varies much.
    """
    from updraft.auto.regret import summarise
    from updraft.auto.reward import GOALS

    path, records = _records(file, config)
    if goal is not None and goal not in GOALS:
        raise UnknownName(f"There is no goal {goal!r}; goals are {', '.join(GOALS)}.", param="goal")
    chosen = next((name for name in GOALS if name == goal), records[-1].goal)
    pair = records[-1].pair
    own = [record for record in records if record.pair == pair]
    summary = summarise(own, chosen)
    if as_json:
        shown = [asdict(record) for record in own[len(own) - min(last, len(own)) :]]
        print_json({"file": str(path), "pair": pair, "goal": chosen, **asdict(summary), "last": shown})
    else:
        _print(path, own, summary, chosen, last)
    if out is not None:
        _draw(out, summary, chosen)


def _records(file: Path | None, config: Path | None) -> tuple[Path, list[Record]]:
    """Raises ConfigError where nothing is kept or was chosen yet."""
    from updraft.auto.history import history_path, read_history
    from updraft.config import load_edge_settings

    path = file or history_path(load_edge_settings(config).auto_history)
    if path is None:
        raise ConfigError("edge.auto_history is off: nothing is kept.", remedy="Set it, or name a file.")
    records = read_history(path)
    if not records:
        raise ConfigError(f"{path} holds no choices.", remedy="Ask something: updraft run --mode auto 'Why?'")
    return path, records


def _print(path: Path, records: list[Record], summary: LogSummary, goal: str, last: int) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    count = f"{summary.choices} choices, {summary.random} of them drawn at random, goal {goal}"
    console.print(f"{path}: {count}", style="dim", markup=False, soft_wrap=True)
    console.print(_arms(summary))
    if last:
        console.print(_choices(records[-last:]))
    mean = sum(summary.rewards) / summary.choices
    console.print(
        f"mean reward {mean:.3f}; regret by the model {summary.regret[-1]:.2f} in all, "
        f"{summary.regret[-1] / summary.choices:.3f} a choice; against always {summary.best_fixed} "
        f"{summary.fixed_regret[-1]:+.2f}; expected less obtained {summary.bias:+.3f}, error {summary.error:.3f}",
        markup=False,
        soft_wrap=True,
    )


def _arms(summary: LogSummary) -> Table:
    from rich.table import Table

    table = Table(title="Arms: rewards obtained, and estimated over all situations", title_justify="left")
    table.add_column("arm")
    for heading in ("chosen", "possible", "mean reward", "by the model", "by propensity", "worth choices"):
        table.add_column(heading, justify="right")
    for arm in summary.arms:
        weighted = "-" if arm.weighted is None else f"{arm.weighted:.3f}"
        obtained = "-" if arm.mean is None else f"{arm.mean:.3f}"
        figures = (obtained, f"{arm.modelled:.3f}", weighted, f"{arm.effective:.0f}")
        table.add_row(arm.name, f"{arm.chosen}", f"{arm.possible}", *figures)
    return table


def _choices(records: list[Record]) -> Table:
    from datetime import datetime

    from rich.table import Table

    table = Table(title="Last choices", title_justify="left")
    for heading in ("when", "arm"):
        table.add_column(heading)
    for heading in ("expected", "obtained", "chance", "RTT ms", "prompt", "tokens", "ms/token", "passes/token"):
        table.add_column(heading, justify="right")
    for record in records:
        table.add_row(
            datetime.fromtimestamp(record.time).strftime("%m-%d %H:%M:%S"),
            record.arm + (" (drawn)" if record.random else ""),
            *_figures(record),
        )
    return table


def _figures(record: Record) -> list[str]:
    situation, outcome = record.situation, record.outcome
    tokens, trip = max(1, outcome.tokens), situation.round_trip_s
    expected = record.expected.get(record.arm)
    return [
        "-" if expected is None else f"{expected[0]:.3f}",
        f"{record.reward:.3f}",
        f"{record.propensity:.2f}",
        "-" if trip is None else f"{trip * 1e3:.1f}",
        f"{situation.prompt_tokens}",
        f"{outcome.tokens}",
        f"{1e3 * outcome.seconds / tokens:.1f}",
        f"{outcome.cloud_passes / tokens:.2f}",
    ]


def _draw(path: Path, summary: LogSummary, goal: str) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("Plots need matplotlib.", remedy="pip install 'updraft-llm[dev]'") from error
    figure = Figure(figsize=(8, 4.2), dpi=150)
    axes: Any = figure.add_subplot()
    steps = range(1, summary.choices + 1)
    axes.plot(steps, summary.regret, color="#2563eb", label="against the best arm in each situation")
    axes.plot(steps, summary.fixed_regret, color="#d97706", label=f"against always {summary.best_fixed}")
    axes.axhline(0.0, color="#9aa4b2", linewidth=0.8)
    axes.set(xlabel="choices", ylabel="cumulative regret, by the model in hindsight", title=f"auto, goal {goal}")
    axes.legend(frameon=False)
    try:
        figure.savefig(path, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be written: {error}.", remedy="Name a .png file.") from error
    stderr().print(f"wrote {path}", style="dim", markup=False, soft_wrap=True)
