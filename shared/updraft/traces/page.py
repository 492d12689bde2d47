"""A trace as one HTML file: the answer as a heat map, with what was decided on every token.

Nothing is loaded and nothing runs: there is no script, and the page's own policy forbids both. All text of prompts,
models and answers is escaped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

from updraft.evaluation.page import Markup, escape
from updraft.modes import Origin
from updraft.traces.files import AnswerTrace, TraceToken
from updraft.traces.look import Placed, facts, heat, milliseconds, placed, printable, size, title
from updraft.traces.steps import STEP_KINDS, DraftedToken, TraceStep
from updraft.traces.style import POLICY, STYLE
from updraft.traces.timeline import entropy_chart, timeline

__all__ = ["trace_page"]

_MOST_ROWS = 500
_PICKS = (
    ("Colour", "by", (("origin", "origin"), ("entropy", "entropy"), ("wait", "waits"))),
    ("Rejected drafts", "gone", (("first", "first"), ("all", "all"), ("none", "none"))),
    ("Theme", "theme", (("auto", "auto"), ("light", "light"), ("dark", "dark"))),
)


def trace_page(answers: Sequence[AnswerTrace], *, name: str = "trace") -> str:
    """A whole document for at least one answer; write it as UTF-8."""
    shown = _safe(name)
    index = _index(answers) if len(answers) > 1 else ""
    articles = "\n".join(_article(number, answer) for number, answer in enumerate(answers, 1))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{shown}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<header class="top"><div><h1>Who wrote what</h1><p class="sub">{shown}, {_count(len(answers), "answer")}'
        f", recorded by Updraft {_safe(answers[0].head.updraft)}</p></div></header>\n"
        f'<div class="bar">{"".join(_pick(*pick) for pick in _PICKS)}</div>\n{index}{articles}\n</main>\n</body>\n'
        "</html>\n"
    )


def _article(number: int, answer: AnswerTrace) -> str:
    head, end = answer.head, answer.end
    pair = " with ".join(_safe(name) for name in (head.edge, head.cloud) if name)
    ended = {"stop": "ended by itself", "length": "reached its length", "cancelled": "was cancelled"}
    notes = f"{pair} · {_safe(head.written)} · seed {head.seed} · {ended[end.finish_reason]}"
    if end.degraded_reason is not None:
        notes += f' · <b class="warn">the edge finished alone: {_safe(end.degraded_reason)}</b>'
    if end.cut:
        notes += ' · <b class="warn">decisions after the first 16,384 drafted tokens were not recorded</b>'
    return (
        f'<article id="a{number}">\n<h2>{_safe(title(answer))}</h2>\n<p class="sub">{notes}</p>\n'
        f"{_tiles(answer)}\n"
        f'<details class="card"><summary>Prompt</summary><pre>{_safe(head.prompt)}</pre></details>\n'
        f'<section class="card"><div class="answer">{"".join(_tokens(answer))}</div>\n{_legend()}</section>\n'
        f'<section class="card"><h3>Over time</h3>{timeline(answer)}</section>\n'
        f'<section class="card"><h3>Entropy of each token, nats</h3>{entropy_chart(answer)}</section>\n'
        f"{_decisions(answer)}\n{_settings(answer)}\n</article>"
    )


def _tokens(answer: AnswerTrace) -> Iterator[str]:
    longest = max((step.waited_ms for step in answer.steps), default=0.0) or 1.0
    for place in placed(answer):
        token, step = place.token, place.step
        if place.replaces and step is not None:
            yield _rejected(step.rejected)
        classes = ["t", token.origin.value, *(["ok"] if place.stood else []), *(["cut"] if place.first else [])]
        wait = 100 * step.waited_ms / longest if step is not None and place.first else 0.0
        style = f"--h:{100 * heat(token.entropy):.0f};--w:{wait:.0f}"
        yield f'<span class="{" ".join(classes)}" style="{style}">{_text(token.text)}{_tip(place)}</span>'
    if answer.steps and answer.steps[-1].rejected and answer.steps[-1].committed <= answer.steps[-1].stood:
        yield _rejected(answer.steps[-1].rejected)


def _rejected(tokens: Sequence[DraftedToken]) -> str:
    """The first rejected token, the others where they are asked for, and how many there are."""
    first, rest = _text(tokens[0].text), "".join(_text(token.text) for token in tokens[1:])
    more = f'<span class="more">{rest}</span><span class="count">+{len(tokens) - 1}</span>' if len(tokens) > 1 else ""
    return f"<del>{first}{more}</del>"


def _text(text: str) -> str:
    """A token's text; line breaks are marked, since a line may be all that a token is."""
    return _safe(text).replace("\n", '<i class="nl">↵</i>\n')


def _tip(place: Placed) -> str:
    token, step = place.token, place.step
    rows = [
        f'<div><span class="dot"></span><b>{_quoted(token.text)}</b> <em>token {token.token}, place {token.index}, '
        f"{_writer(place)}</em></div>",
        f'<div class="row">{_figures(token)}</div>',
    ]
    if step is not None:
        spent = f" · waited {milliseconds(step.waited_ms)}" if step.waited_ms else ""
        traffic = f" · {size(step.bytes_up)} up, {size(step.bytes_down)} down" if step.bytes_up else ""
        passes = f" · {_count(step.cloud_passes, 'cloud pass', 'cloud passes')}" if step.cloud_passes else ""
        rows.append(f"<div><em>decision {place.number + 1}:</em> {STEP_KINDS[step.kind]}{spent}{traffic}{passes}</div>")
        if step.drafted:
            rows.append(f"<div><em>drafted:</em> {_drafts(step)}</div>")
    return f'<span class="tip">{"".join(rows)}</span>'


def _figures(token: TraceToken) -> str:
    probability = "unknown" if token.logprob is None else f"{math.exp(min(0.0, token.logprob)):.3f}"
    entropy = "unknown" if token.entropy is None else f"{token.entropy:.2f} nats"
    items = [("probability", probability), ("entropy", entropy), ("at", f"{token.seconds:.3f} s")]
    if token.layer is not None:
        items.append(("left at layer", f"{token.layer}"))
    return "".join(f"<span><em>{name}</em> {value}</span>" for name, value in items)


def _drafts(step: TraceStep) -> str:
    stood = "".join(_quoted(token.text, bare=True) for token in step.drafted[: step.stood])
    rejected = [
        f"{_quoted(token.text, bare=True)}" + (f" <em>({token.entropy:.2f})</em>" if token.entropy is not None else "")
        for token in step.rejected[:12]
    ]
    return (f"<b>{stood}</b> " if stood else "") + (f"<del>{' '.join(rejected)}</del>" if rejected else "")


def _writer(place: Placed) -> str:
    if place.token.origin is Origin.CLOUD:
        return "written by the cloud"
    return "drafted by the edge, seen by the cloud" if place.stood else "written by the edge alone"


def _tiles(answer: AnswerTrace) -> str:
    cells = "".join(
        f'<div class="tile"><span>{label}</span><b>{escape(value)}</b>{_share(answer) if number == 2 else ""}'
        f"<small>{escape(below)}</small></div>"
        for number, (label, value, below) in enumerate(facts(answer))
    )
    return f'<div class="tiles">{cells}</div>'


def _share(answer: AnswerTrace) -> str:
    """Edge alone, edge and seen by the cloud, cloud: as parts of a bar."""
    seen = sum(token.origin is Origin.EDGE and token.verified for token in answer.tokens)
    cloud = sum(token.origin is Origin.CLOUD for token in answer.tokens)
    mixed = "color-mix(in srgb, var(--edge) 55%, var(--cloud))"
    parts = [(len(answer.tokens) - seen - cloud, "var(--edge)"), (seen, mixed), (cloud, "var(--cloud)")]
    bars = "".join(f'<i style="flex:{count};background:{colour}"></i>' for count, colour in parts if count)
    return f'<div class="share">{bars}</div>'


def _legend() -> str:
    def swatch(style: str, text: str) -> str:
        return f'<span><b style="{style}"></b>{text}</span>'

    tint = "background:color-mix(in srgb,var(--{}) 38%,transparent)".format
    shades = "background:linear-gradient(90deg,color-mix(in srgb,var(--edge) 7%,transparent),var(--edge))"
    return (
        '<div class="legend">'
        + swatch(tint("edge"), "edge")
        + swatch(tint("edge") + ";box-shadow:inset 0 -2px 0 var(--cloud)", "edge, and the cloud let it stand")
        + swatch(tint("cloud"), "cloud")
        + swatch(shades, "sure to unsure")
        + "<span><del>text</del>drafted and rejected</span>"
        + "<span>│ a decision begins</span></div>"
    )


def _decisions(answer: AnswerTrace) -> str:
    columns = ("decision", "", "at s", "drafted", "stood", "committed", "waited ms", "up B", "down B", "cloud passes")
    rows = [
        (
            number,
            step.kind.replace("_", " "),
            f"{step.asked_s:.3f}",
            len(step.drafted),
            step.stood,
            step.committed,
            f"{step.waited_ms:.1f}",
            step.bytes_up,
            step.bytes_down,
            step.cloud_passes,
        )
        for number, step in enumerate(answer.steps[:_MOST_ROWS], 1)
    ]
    head = "".join(f"<th{' class=l' if place == 1 else ''}>{name}</th>" for place, name in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(f"<td{' class=l' if place == 1 else ''}>{v}</td>" for place, v in enumerate(row)) + "</tr>"
        for row in rows
    )
    more = f", the first {_MOST_ROWS} of them" if len(answer.steps) > _MOST_ROWS else ""
    return (
        f'<details class="card"><summary>{_count(len(answer.steps), "decision")}{more}</summary>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>'
    )


def _settings(answer: AnswerTrace) -> str:
    written = json.dumps(answer.head.settings, indent=2, ensure_ascii=False)
    return f'<details class="card"><summary>Settings</summary><pre>{_safe(written)}</pre></details>'


def _index(answers: Sequence[AnswerTrace]) -> str:
    rows = "".join(
        f'<a href="#a{number}"><span>{number}. {_safe(" ".join(answer.head.prompt.split())[:160])}</span>'
        f"<span>{_safe(title(answer))} · {answer.end.statistics.tokens} tokens · "
        f"{answer.end.statistics.cloud_share:.0%} cloud</span></a>"
        for number, answer in enumerate(answers, 1)
    )
    return f'<nav class="card index">{rows}</nav>\n'


def _pick(label: str, group: str, choices: Sequence[tuple[str, str]]) -> str:
    options = "".join(
        f'<label><input type="radio" name="{group}" id="{group}-{key}"{"" if number else " checked"}>{text}</label>'
        for number, (key, text) in enumerate(choices)
    )
    return f'<div class="pick">{label}<span>{options}</span></div>'


def _quoted(text: str, *, bare: bool = False) -> Markup:
    """One line, with marks for what is not seen."""
    shown = printable(text).replace("\n", "↵").replace("\t", "⇥")
    return escape(shown if bare else f"“{shown.replace(' ', '·')}”")


def _safe(text: str) -> Markup:
    return escape(printable(text))


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
