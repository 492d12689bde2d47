"""The demonstration's screen: sections, answers that grow, progress; and the same as an SVG."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.text import Text

from updraft.demo.origins import AnswerText, Source
from updraft.errors import ConfigError
from updraft.generation import Completion

__all__ = ["AnswerView", "Screen"]

_CAPTURE_COLUMNS: Final = 100
# The picture must not fetch fonts from a server.
_SVG_FORMAT: Final = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


class AnswerView:
    """One answer in its frame: the prompt above, the counts below."""

    def __init__(self, prompt: str, mode: str) -> None:
        self.text = AnswerText()
        self._prompt = prompt
        self._mode = mode
        self._below = Text("")

    def finish(self, completion: Completion) -> None:
        """Put the answer's counts below it."""
        counts, statistics = self.text.counts, completion.statistics
        named = ((Source.VERIFIED, "verified"), (Source.CLOUD, "cloud"), (Source.ALONE, "edge alone"))
        parts = ", ".join(f"{counts[source]} {name}" for source, name in named if counts[source])
        self._below = Text(
            f"{self._mode} · {statistics.tokens} tokens: {parts} · {statistics.cloud_passes} cloud passes", "dim"
        )
        if completion.degraded:
            self._below.append(" · degraded", "yellow")

    def __rich__(self) -> Panel:
        return Panel(
            self.text,
            title=Text(self._prompt, "bold"),
            title_align="left",
            subtitle=self._below,
            subtitle_align="right",
            border_style="dim",
            padding=(0, 1),
        )


class Screen:
    """Shows the demonstration to a person.

    Args:
        console: where it is shown.
        quiet: show progress only.
        capture: also keep everything for `save`.
    """

    def __init__(self, console: Console, *, quiet: bool = False, capture: bool = False) -> None:
        self._console = console
        self._capture: Console | None = None
        self.quiet = quiet
        if capture:
            self._capture = Console(
                record=True,
                file=io.StringIO(),
                width=_CAPTURE_COLUMNS,
                force_terminal=True,
                color_system="truecolor",
                no_color=False,
                highlight=False,
            )

    @property
    def _alive(self) -> bool:
        """Lines that were shown can be replaced."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def show(self, *renderables: RenderableType) -> None:
        if self.quiet:
            return
        for console in (self._console, self._capture):
            if console is not None:
                for renderable in renderables:
                    console.print(renderable, highlight=False)

    def section(self, title: str, *explanation: str) -> None:
        """A heading, and what is to be seen below it."""
        self.show("", Rule(Text(title, "bold"), align="left", style="dim"))
        self.show(*(Padding(Text(line), (0, 0, 0, 1)) for line in explanation))

    @contextlib.contextmanager
    def waiting(self, text: str) -> Iterator[Callable[[str], None]]:
        """Something without a measure is under way; call the result with another text while it goes on."""
        if not self._alive:
            yield lambda line: self._console.print(line, markup=False, soft_wrap=True)
            return
        with self._console.status(text) as status:
            yield lambda line: status.update(Text(line))

    @contextlib.contextmanager
    def answer(self, prompt: str, mode: str) -> Iterator[AnswerView]:
        """An answer that grows on the screen while tokens are added to it."""
        view = AnswerView(prompt, mode)
        if self.quiet:
            yield view
            return
        if self._alive:
            with Live(view, console=self._console, refresh_per_second=20):
                yield view
        else:
            yield view
            self._console.print(view)
        if self._capture is not None:
            self._capture.print(view)

    @contextlib.contextmanager
    def progress(self, total: int) -> Iterator[Callable[[str], None]]:
        """A bar of `total` steps; call the result with a step's name when it begins."""
        columns = (TextColumn("  {task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        begun = 0
        with Progress(*columns, console=self._console, transient=True, disable=not self._alive) as bar:
            task = bar.add_task("", total=total)

            def step(name: str) -> None:
                nonlocal begun
                bar.update(task, description=name, completed=begun)
                begun += 1

            yield step

    def save(self, path: Path) -> None:
        """Write what was shown as an SVG. Raises ConfigError if the file cannot be written."""
        if self._capture is None:
            raise RuntimeError("nothing was captured")
        svg = self._capture.export_svg(title="updraft demo", code_format=_SVG_FORMAT, unique_id="updraft-demo")
        try:
            path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"The picture cannot be written to {path}: {error.strerror}.", remedy="Give --svg another file."
            ) from error
