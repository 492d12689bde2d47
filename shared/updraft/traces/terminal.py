"""A trace on a terminal: the answer in the colours of its writers, and the figures."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.style import Style
from rich.table import Table
from rich.text import Text

from updraft.modes import Origin
from updraft.traces.files import AnswerTrace
from updraft.traces.look import facts, heat, milliseconds, placed, printable, title

__all__ = ["show_traces"]

_COLOURS = {Origin.EDGE: (38, 166, 116), Origin.CLOUD: (64, 122, 242)}
_GONE = Style(color="red", strike=True, dim=True)


def show_traces(answers: Sequence[AnswerTrace], console: Console) -> None:
    """Print answers one after the other."""
    for number, answer in enumerate(answers, 1):
        console.print(_answer(answer, number if len(answers) > 1 else None))


def _answer(answer: AnswerTrace, number: int | None) -> RenderableType:
    head, end = answer.head, answer.end
    pair = " with ".join(printable(name) for name in (head.edge, head.cloud) if name)
    heading = Text.assemble((f"{number}. " if number else "", "bold"), (title(answer), "bold"), (f"  {pair}", "dim"))
    parts: list[RenderableType] = [Rule(heading, align="left", style="dim"), Padding(_text(answer), (1, 0))]
    parts += [_legend(), _facts(answer), _longest_waits(answer)]
    if end.degraded_reason is not None:
        parts.append(Text(f"the edge finished alone: {printable(end.degraded_reason)}", style="yellow"))
    return Group(*parts)


def _text(answer: AnswerTrace) -> Text:
    text = Text()
    for place in placed(answer):
        if place.replaces and place.step is not None:
            rejected = place.step.rejected
            text.append(printable(rejected[0].text).strip() or "·", _GONE)
            text.append(f"+{len(rejected) - 1} " if len(rejected) > 1 else " ", Style(color="red", dim=True))
        token = place.token
        text.append(printable(token.text), _shade(token.origin, heat(token.entropy), place.stood))
    return text


def _shade(origin: Origin, warmth: float, stood: bool) -> Style:
    """White on the tier's colour, the stronger the less sure it was."""
    strength = 0.22 + 0.78 * warmth
    red, green, blue = (round(24 + (value - 24) * strength) for value in _COLOURS[origin])
    return Style(color="white", bgcolor=f"rgb({red},{green},{blue})", underline=stood)


def _legend() -> Text:
    return Text.assemble(
        (" edge ", _shade(Origin.EDGE, 0.5, stood=False)),
        " ",
        (" edge, the cloud let it stand ", _shade(Origin.EDGE, 0.5, stood=True)),
        " ",
        (" cloud ", _shade(Origin.CLOUD, 0.5, stood=False)),
        ("  brighter: less sure  ", "dim"),
        ("rejected", _GONE),
        ("+more of the draft", Style(color="red", dim=True)),
    )


def _facts(answer: AnswerTrace) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    found = facts(answer)
    for _ in found:
        table.add_column()
    table.add_row(*(Text(label, style="dim") for label, _, _ in found))
    table.add_row(*(Text(value, style="bold") for _, value, _ in found))
    table.add_row(*(Text(below, style="dim") for _, _, below in found))
    return table


def _longest_waits(answer: AnswerTrace) -> Text:
    waits = sorted(((step.waited_ms, step.position) for step in answer.steps if step.waited_ms > 0.0), reverse=True)
    shown = ", ".join(f"{milliseconds(waited)} at token {position}" for waited, position in waits[:3])
    return Text(f"longest waits: {shown}" if shown else "nothing was waited for", style="dim")
