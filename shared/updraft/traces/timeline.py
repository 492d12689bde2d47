"""Two pictures of an answer as inline SVG: who committed what when, and how sure the tokens' writers were."""

from __future__ import annotations

from updraft.evaluation.charts import nice_ticks
from updraft.evaluation.page import Markup, escape
from updraft.traces.files import AnswerTrace
from updraft.traces.look import milliseconds
from updraft.traces.steps import STEP_KINDS

__all__ = ["entropy_chart", "timeline"]

_WIDTH, _LEFT, _RIGHT = 1000.0, 62.0, 8.0
_LANE = 30.0
_LANES = ("edge", "cloud", "waits", "drafts lost")


def timeline(answer: AnswerTrace) -> Markup:
    """Lanes over time: tokens of either tier, waits for the cloud, and drafts that were rejected."""
    counts = answer.end.statistics
    last = max([token.seconds for token in answer.tokens] + [counts.seconds, 1e-3])
    scale = (_WIDTH - _LEFT - _RIGHT) / last
    high = len(_LANES) * _LANE
    parts = [*_lanes(), *_seconds(last, scale, high)]
    for step in answer.steps:
        x = _LEFT + step.asked_s * scale
        told = f"{STEP_KINDS[step.kind]} at {step.asked_s:.3f} s"
        if step.waited_ms > 0.05:
            wide = max(1.2, step.waited_ms * 1e-3 * scale)
            parts.append(_box(x, 2 * _LANE + 7, wide, 15, "wait", f"waited {milliseconds(step.waited_ms)}: {told}"))
        if step.rejected:
            tall = min(22.0, 4.0 + 2.0 * len(step.rejected))
            label = f"{len(step.rejected)} of {len(step.drafted)} drafted tokens rejected"
            parts.append(_box(x, 4 * _LANE - 4 - tall, 3.0, tall, "gone", label))
    for token in answer.tokens:
        lane = 0 if token.origin == "edge" else 1
        label = f"token {token.index} at {token.seconds:.3f} s"
        parts.append(_box(_LEFT + token.seconds * scale - 1, lane * _LANE + 5, 2.2, 19, token.origin.value, label))
    return _svg(parts, high + 22, "Tokens and waits over time")


def entropy_chart(answer: AnswerTrace) -> Markup:
    """A bar for every token, as high as its writer's entropy, in nats."""
    high, low = 96.0, 4.0
    values = [token.entropy or 0.0 for token in answer.tokens]
    top = max([1.0, *values])
    wide = (_WIDTH - _LEFT - _RIGHT) / max(1, len(values))
    parts = []
    for tick in nice_ticks(0.0, top, 3):
        y = low + high * (1 - min(1.0, tick / top))
        if tick <= top:
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for token, value in zip(answer.tokens, values, strict=True):
        tall = max(1.0, high * value / top)
        x, gap = _LEFT + token.index * wide, min(1.0, wide * 0.2)
        label = f"token {token.index}: entropy {value:.2f} nats"
        parts.append(_box(x, low + high - tall, max(0.4, wide - gap), tall, token.origin.value, label))
    parts.append(f'<text x="{_LEFT}" y="{low + high + 15}">token 0</text>')
    end = max(0, len(values) - 1)
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{low + high + 15}" text-anchor="end">token {end}</text>')
    return _svg(parts, high + 26, "Entropy of each token")


def _lanes() -> list[str]:
    lines = []
    for number, name in enumerate(_LANES):
        y = (number + 1) * _LANE
        lines.append(f'<text x="0" y="{y - 11}">{name}</text>')
        lines.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
    return lines


def _seconds(last: float, scale: float, high: float) -> list[str]:
    lines = []
    for tick in nice_ticks(0.0, last, 8):
        if tick > last:
            continue
        x = _LEFT + tick * scale
        lines.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{high}"/>')
        anchor = "start" if tick == 0 else "end" if x > _WIDTH - 30 else "middle"
        lines.append(f'<text x="{x:.1f}" y="{high + 15}" text-anchor="{anchor}">{tick:g} s</text>')
    return lines


def _box(x: float, y: float, wide: float, tall: float, kind: str, label: str) -> str:
    return (
        f'<rect class="{kind}" data-k="" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" rx="1.2">'
        f"<title>{escape(label)}</title></rect>"
    )


def _svg(parts: list[str], height: float, label: str) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH:g} {height:g}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
