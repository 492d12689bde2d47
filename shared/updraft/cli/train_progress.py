"""Progress of training on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from updraft.cli.reporting import stderr

__all__ = ["progress_bars"]


@contextmanager
def progress_bars(line: Callable[[Any], str]) -> Iterator[Callable[[str, int, int, Any], None]]:
    """A bar a stage; points of the learning curve stay as lines above it, as `line` writes them."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr()) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int, point: Any) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)
            if point is not None:
                bars.console.print(f"{stage}: {line(point)}")

        yield report
