"""Self-contained HTML pages for reports: one file, no external resources, light and dark.

Everything that comes in as `str` is text and is escaped; only `Markup`, which this module and `charts` make, is put in
as it is.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Final, NewType

__all__ = ["Markup", "escape", "facts", "figure", "join", "note", "page", "paragraph", "section", "table", "tiles"]

Markup = NewType("Markup", str)
"""HTML that is already safe."""

_STYLE: Final = """
:root { color-scheme: light dark;
  --ground: #fbfbfa; --card: #ffffff; --ink: #1d2129; --soft: #626b78; --line: #e2e5ea; --accent: #1f6feb;
  --s1: #2563eb; --s2: #d97706; --s3: #16a34a; --s4: #db2777; --s5: #7c3aed; --s6: #0891b2; --s7: #b91c1c;
  --s8: #6b7280; --good: #15803d; --warn: #b45309; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #14171c; --card: #1b1f26; --ink: #e6e9ee; --soft: #99a3b1; --line: #2c323c; --accent: #6ea8fe;
  --s1: #6ea8fe; --s2: #f5b04c; --s3: #5fd38d; --s4: #f48fb9; --s5: #b89cff; --s6: #56cfe1; --s7: #ff8f8f;
  --s8: #9aa4b2; --good: #5fd38d; --warn: #f5b04c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 36px 0 10px; }
p { margin: 8px 0; max-width: 78ch; }
.sub { color: var(--soft); margin: 0 0 20px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 12px; margin: 18px 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 13px 16px; }
.tile b { display: block; font-size: 23px; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile span, .tile small { color: var(--soft); font-size: 12.5px; }
.tile small { display: block; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 16px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px; }
figcaption { color: var(--soft); font-size: 13px; margin-top: 6px; }
figure h3 { font-size: 14.5px; margin: 0 0 6px; }
.note { border-left: 3px solid var(--accent); background: var(--card); padding: 10px 16px; border-radius: 0 8px 8px 0;
  max-width: 84ch; margin: 14px 0; }
.note.warn { border-color: var(--warn); }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { padding: 7px 14px; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th { color: var(--soft); font-weight: 550; border-bottom: 1px solid var(--line); }
td { border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
tr.chosen td { background: color-mix(in srgb, var(--accent) 13%, transparent); font-weight: 600; }
th.l, td.l { text-align: left; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; font-size: 13.5px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--soft); } svg text.strong { fill: var(--ink); font-weight: 600; }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); }
svg [data-tip] { cursor: default; } svg [data-tip]:hover { filter: brightness(1.2); stroke-width: 3px; }
#tip { position: fixed; pointer-events: none; background: var(--ink); color: var(--ground); font-size: 12.5px;
  padding: 6px 10px; border-radius: 7px; white-space: pre-line; max-width: 340px;
  opacity: 0; transition: opacity .08s; }
@media print { body { background: #fff; } .tile, figure { break-inside: avoid; } }
"""

# The tips are set as text, never as HTML.
_SCRIPT: Final = """
const tip = document.getElementById("tip");
document.addEventListener("pointermove", event => {
  const target = event.target.closest && event.target.closest("[data-tip]");
  tip.style.opacity = target ? 1 : 0;
  if (!target) return;
  tip.textContent = target.dataset.tip;
  const wide = tip.offsetWidth, high = tip.offsetHeight;
  tip.style.left = Math.min(event.clientX + 14, innerWidth - wide - 8) + "px";
  tip.style.top = (event.clientY + high + 24 > innerHeight ? event.clientY - high - 10 : event.clientY + 16) + "px";
});
"""


def escape(text: object) -> Markup:
    """Text as it is to be read, safe between tags and in attributes."""
    return Markup(html.escape(str(text), quote=True))


def join(*parts: Markup) -> Markup:
    return Markup("\n".join(parts))


def page(title: str, sections: Sequence[Markup], *, subtitle: str = "") -> str:
    """A whole HTML document; write it as UTF-8."""
    under = f'<p class="sub">{escape(subtitle)}</p>' if subtitle else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{under}\n{join(*sections)}\n</main>\n"
        f'<div id="tip" role="tooltip"></div>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n'
    )


def section(heading: str, *parts: Markup) -> Markup:
    return Markup(f"<section>\n<h2>{escape(heading)}</h2>\n{join(*parts)}\n</section>")


def paragraph(text: str) -> Markup:
    return Markup(f"<p>{escape(text)}</p>")


def note(text: str, *, warning: bool = False) -> Markup:
    """A paragraph that stands out."""
    return Markup(f'<div class="note{" warn" if warning else ""}">{escape(text)}</div>')


def tiles(items: Sequence[tuple[str, str, str]]) -> Markup:
    """Figures in large type: label, value, and a line below (may be empty)."""
    cells = (
        f'<div class="tile"><span>{escape(label)}</span><b>{escape(value)}</b><small>{escape(below)}</small></div>'
        for label, value, below in items
    )
    return Markup(f'<div class="tiles">{"".join(cells)}</div>')


def facts(items: Sequence[tuple[str, str]]) -> Markup:
    """Names and values in two columns."""
    return Markup("<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in items) + "</dl>")


def figure(*charts: tuple[Markup, str, str]) -> Markup:
    """Charts side by side where there is room: each with its title and caption."""
    cells = (
        f"<figure><h3>{escape(title)}</h3>{chart}<figcaption>{escape(caption)}</figcaption></figure>"
        for chart, title, caption in charts
    )
    return Markup(f'<div class="figures">{"".join(cells)}</div>')


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, left: Sequence[int] = (0,), chosen: int | None = None
) -> Markup:
    """A table; `left`: columns that are aligned left; `chosen`: a row that stands out."""

    def cells(tag: str, values: Sequence[object]) -> str:
        return "".join(
            f"<{tag}{' class=l' if place in left else ''}>{escape(value)}</{tag}>" for place, value in enumerate(values)
        )

    body = "\n".join(
        f"<tr{' class=chosen' if number == chosen else ''}>{cells('td', row)}</tr>" for number, row in enumerate(rows)
    )
    head = f"<thead><tr>{cells('th', columns)}</tr></thead>"
    return Markup(f'<div class="scroll"><table>{head}\n<tbody>{body}</tbody></table></div>')
