"""An answer on the screen: its tokens coloured by where they came from, or marked where there are no colours."""

from __future__ import annotations

from enum import Enum

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from updraft.cli.printing import CONTROLS
from updraft.generation import TokenEvent
from updraft.modes import Origin

__all__ = ["AnswerText", "Legend", "Source"]


class Source(Enum):
    """Who answers for a token: style, marks without colours, and meaning."""

    VERIFIED = ("green", "", "", "drafted on the edge, verified by the cloud")
    CLOUD = ("bold cyan", "[", "]", "written by the cloud")
    ALONE = ("yellow", "{", "}", "written by the edge alone")
    KILLED = ("bold white on red", "<", ">", "the cloud is killed here")

    def __init__(self, style: str, before: str, after: str, meaning: str) -> None:
        self.style = style
        self.before = before
        self.after = after
        self.meaning = meaning

    @classmethod
    def of(cls, event: TokenEvent) -> Source:
        if event.origin is Origin.CLOUD:
            return cls.CLOUD
        return cls.VERIFIED if event.verified else cls.ALONE

    def marked(self, text: str) -> str:
        """The text between this source's marks, which go inside of its white space."""
        core = text.strip()
        return text.replace(core, f"{self.before}{core}{self.after}", 1) if core else text


class AnswerText:
    """The text of an answer in runs of one source."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(Source, 0)
        self._runs: list[tuple[Source, str]] = []

    def add(self, event: TokenEvent) -> None:
        source = Source.of(event)
        self.counts[source] += 1
        self._append(source, event.text.translate(CONTROLS))

    def note_killed(self) -> None:
        """Mark the place that the answer had reached when the cloud was killed."""
        self._append(Source.KILLED, " cloud killed ")

    def plain(self) -> str:
        """The text with marks in place of colours."""
        return "".join(source.marked(text) for source, text in self._runs)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if _coloured(console):
            yield Text.assemble(*((text, source.style) for source, text in self._runs))
        else:
            yield Text(self.plain())

    def _append(self, source: Source, text: str) -> None:
        if self._runs and self._runs[-1][0] is source:
            text = self._runs.pop()[1] + text
        self._runs.append((source, text))


class Legend:
    """What the colours, or the marks, mean."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        coloured = _coloured(console)
        for source in (Source.VERIFIED, Source.CLOUD, Source.ALONE):
            sample = "token" if coloured else source.marked("token")
            yield Text.assemble("  ", (sample, source.style), f"  {source.meaning}")


def _coloured(console: Console) -> bool:
    return console.color_system is not None and not console.no_color
