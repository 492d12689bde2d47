"""What the verbs of `updraft experts` share: simulations of a trace, their table and plot, sizes and shares as text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from updraft.cli.reporting import stderr
from updraft.errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from updraft_cloud.experts.costs import Costs
    from updraft_cloud.experts.replay import Replay

__all__ = ["bar_of", "bytes_of", "plot_rows", "prompt_texts", "regrouped", "share_of", "simulated", "table_of_rows"]

_WAITING = 16  # runs that a scheduler would look at


def simulated(
    routes: Any,
    policies: list[str] | None,
    budgets: list[str] | None,
    costs: tuple[float, float | None, float | None, float | None],
    predictor: Path | None,
    gate: float,
) -> tuple[list[dict[str, Any]], int]:
    """Rows of the sweep, and the bytes of all experts."""
    from updraft_cloud.experts.evaluation import Sweep, names_of, rows_of, sweep
    from updraft_cloud.experts.predictor import read_predictor
    from updraft_cloud.experts.replay import Replay

    replay = Replay(routes)
    shape = replay.shape
    whole = shape.layers * shape.experts * shape.expert_bytes
    own = None if predictor is None else read_predictor(predictor)
    if own is not None:
        own.check(shape=shape, fingerprint=routes.fingerprint)
    wanted = Sweep(tuple(policies or ()), gate=gate)
    if budgets:
        shares = dict.fromkeys(min(1.0, bytes_of(budget, whole) / whole) for budget in budgets)
        wanted = Sweep(tuple(policies or ()), tuple(shares), gate)
    with bar_of("simulating", len(names_of(replay, wanted, own)) * len(wanted.shares)) as (bar, task):
        results = sweep(
            replay,
            _costs(replay, *costs),
            wanted,
            predictor=own,
            progress=lambda text: bar.update(task, advance=1, description=text),
        )
    return rows_of(results, shape), whole


def regrouped(
    routes: Any, rows: list[dict[str, Any]], most: int, costs: tuple[float, float | None, float | None, float | None]
) -> list[dict[str, Any]]:
    """What sharing passes by overlap is worth under the default policy, at each budget of the rows."""
    from updraft.config.experts import ExpertSettings
    from updraft_cloud.experts.grouping import compare_groupings
    from updraft_cloud.experts.replay import Replay

    own, policy = _costs(Replay(routes), *costs), ExpertSettings().policy
    budgets = {row["slots"]: row["budget_share"] for row in rows}
    return [
        {"budget_share": share, **row}
        for slots, share in budgets.items()
        for row in compare_groupings(routes, policy, slots, own, most, waiting=_WAITING)
    ]


def _costs(
    replay: Replay, bandwidth: float, expert_us: float | None, host_us: float | None, dense_us: float | None
) -> Costs:
    from dataclasses import replace

    from updraft_cloud.experts.costs import Costs, Line

    costs = Costs.of_link(replay.shape.expert_bytes, bandwidth)
    if expert_us is not None:
        costs = replace(costs, device=Line(expert_us * 1e-6))
    if dense_us is not None:
        costs = replace(costs, dense=Line(dense_us * 1e-6))
    return costs if host_us is None else replace(costs, host=Line(0.0, host_us * 1e-6))


def bytes_of(text: str, whole: int) -> int:
    from updraft.config.experts import budget_bytes

    try:
        return budget_bytes(text, whole)
    except ValueError as error:
        raise ConfigError(f"{error}.") from error


def share_of(text: str | None) -> float | None:
    """`10%` or `0.1` as 0.1."""
    if text is None:
        return None
    try:
        value = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{text!r} is no share: write 10% or 0.1.")
    return value


def prompt_texts(source: str, most: int | None = None) -> list[str]:
    """The prompts of a file as plain texts."""
    from updraft.calibration.prompts import read_prompts

    return ["\n".join(part.content for part in prompt.messages) for prompt in read_prompts(source, most=most)]


def table_of_rows(rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(title="* slower than lru at this budget; belady and oracle know the future", title_justify="left")
    table.add_column("budget", justify="right")
    table.add_column("policy")
    for heading in ("hits", "late", "loads", "x belady", "useful", "stalled", "ms/pass", "x lru's time"):
        table.add_column(heading, justify="right")
    for row in rows:
        useful = row["useful_share"]
        mark = " *" if row["time_vs_lru"] > 1.0005 else ""
        table.add_row(
            f"{row['budget_share']:.0%}",
            row["policy"] + mark,
            f"{row['hit_rate']:.1%}",
            f"{row['late_share']:.1%}",
            f"{row['loads']}",
            f"{row['loads_vs_belady']:.2f}",
            "-" if useful is None else f"{useful:.0%}",
            f"{row['stall_share']:.1%}",
            f"{row['ms_per_pass']:.3g}",
            f"{row['time_vs_lru']:.2f}",
        )
    return table


def plot_rows(path: Path | None, rows: list[dict[str, Any]]) -> None:
    if path is None:
        return
    from updraft.cli.bench import bench_module

    try:
        bench_module("experts_plot").plot_budgets(rows, path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be written: {error}.", remedy="Name a .png file.") from error
    stderr().print(f"wrote {path}", style="dim", markup=False, soft_wrap=True)


@contextmanager
def bar_of(what: str, total: int) -> Iterator[tuple[Progress, Any]]:
    """A bar on standard error."""
    from rich.progress import Progress

    with Progress(console=stderr()) as progress:
        yield progress, progress.add_task(what, total=total)
