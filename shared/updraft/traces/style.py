"""The look of a trace page: one style sheet, light and dark, and no script at all."""

from __future__ import annotations

from typing import Final

__all__ = ["POLICY", "STYLE"]

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""The page's own content security policy: whatever a model wrote, nothing is loaded and nothing runs."""

STYLE: Final = """
:root { color-scheme: light dark;
  --ground: light-dark(#f6f7f9, #0f1216); --card: light-dark(#ffffff, #171b21); --ink: light-dark(#1a1f27, #e8ebf0);
  --soft: light-dark(#667080, #98a2b0); --line: light-dark(#e3e7ed, #2a313b);
  --edge: light-dark(#12a06a, #3ddc97); --cloud: light-dark(#2f6df6, #6aa5ff); --hot: light-dark(#e4572e, #ff8a5c);
  --wait: light-dark(#d98a00, #ffc14d); --gone: light-dark(#c43d4b, #ff7d88); }
:root:has(#theme-light:checked) { color-scheme: light; } :root:has(#theme-dark:checked) { color-scheme: dark; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 34px 24px 150px; }
header.top { display: flex; flex-wrap: wrap; gap: 10px 24px; align-items: baseline; justify-content: space-between; }
h1 { font-size: 25px; margin: 0; letter-spacing: -0.015em; }
h2 { font-size: 19px; margin: 0; letter-spacing: -0.01em; }
h3 { font-size: 13px; margin: 0 0 10px; color: var(--soft); font-weight: 600; }
a { color: var(--cloud); text-decoration: none; } a:hover { text-decoration: underline; }
.sub { color: var(--soft); font-size: 13.5px; margin: 3px 0 0; overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 18px 22px;
  margin: 14px 0; }
.bar { position: sticky; top: 0; z-index: 3; display: flex; flex-wrap: wrap; gap: 8px 20px; align-items: center;
  background: color-mix(in srgb, var(--ground) 88%, transparent); backdrop-filter: blur(8px); padding: 12px 0;
  font-size: 13px; color: var(--soft); }
.pick { display: inline-flex; align-items: center; gap: 8px; }
.pick > span { background: var(--card); border: 1px solid var(--line); border-radius: 9px; padding: 2px;
  display: inline-flex; }
.pick label { padding: 3px 11px; border-radius: 7px; cursor: pointer; color: var(--soft); }
.pick input { position: absolute; opacity: 0; pointer-events: none; }
.pick label:has(input:checked) { background: var(--ink); color: var(--card); }
.pick label:has(input:focus-visible) { outline: 2px solid var(--cloud); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(126px, 1fr)); gap: 10px; margin: 14px 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 11px 14px; }
.tile b { display: block; font-size: 23px; line-height: 1.3; font-weight: 650; font-variant-numeric: tabular-nums;
  letter-spacing: -0.02em; }
.tile span, .tile small { color: var(--soft); font-size: 12.5px; display: block; }
.share { display: flex; height: 8px; border-radius: 5px; overflow: hidden; gap: 2px; margin: 4px 0 2px; }
.share i { display: block; min-width: 2px; }
.legend { display: flex; flex-wrap: wrap; gap: 6px 20px; color: var(--soft); font-size: 12.5px; margin: 12px 0 0; }
.legend b { display: inline-block; width: 26px; height: 14px; border-radius: 4px; vertical-align: -2px;
  margin-right: 7px; }
.answer { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 17px; line-height: 1.95; }
.t { --c: var(--edge); border-radius: 4px; padding: 2px 0; cursor: default;
  background: color-mix(in srgb, var(--c) calc(7% + var(--h) * .58%), transparent); }
.t.cloud { --c: var(--cloud); }
.t.ok { box-shadow: inset 0 -2px 0 var(--cloud); }
.t.cut { margin-left: 1px; border-left: 1px solid color-mix(in srgb, var(--ink) 34%, transparent); }
.t:hover { outline: 2px solid var(--ink); outline-offset: 0; }
:root:has(#by-entropy:checked) .t { background: color-mix(in srgb, var(--hot) calc(var(--h) * .82%), transparent); }
:root:has(#by-wait:checked) .t { background: color-mix(in srgb, var(--wait) calc(var(--w) * .82%), transparent); }
.nl { color: var(--soft); opacity: .55; font-size: .8em; }
del { color: var(--gone); font-size: .74em; opacity: .95; padding: 1px 4px; margin: 0 3px; border-radius: 4px;
  background: color-mix(in srgb, var(--gone) 11%, transparent); user-select: none; }
del .more { display: none; } del .count { opacity: .7; margin-left: 4px; text-decoration: none;
  display: inline-block; }
:root:has(#gone-none:checked) del { display: none; }
:root:has(#gone-all:checked) del .more { display: inline; }
:root:has(#gone-all:checked) del .count { display: none; }
.tip { display: none; position: fixed; left: 50%; bottom: 18px; transform: translateX(-50%); z-index: 5;
  width: min(760px, calc(100vw - 32px)); background: var(--card); color: var(--ink); border: 1px solid var(--line);
  border-radius: 14px; box-shadow: 0 12px 40px light-dark(#1a1f2730, #000000a0); padding: 12px 18px;
  font-size: 13px; line-height: 1.6; white-space: normal; user-select: none; }
.t:hover > .tip { display: block; }
.tip b { font: 600 14px ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
.tip del { font-size: 1em; margin: 0; } .tip em { font-style: normal; color: var(--soft); }
.tip .row { display: flex; flex-wrap: wrap; gap: 0 20px; }
.dot { display: inline-block; width: 9px; height: 9px; border-radius: 50%; background: var(--c); margin-right: 6px; }
svg { display: block; width: 100%; height: auto; font: 11px system-ui, "DejaVu Sans", sans-serif; }
svg text { fill: var(--soft); } svg .axis { stroke: var(--line); } svg .grid { stroke: var(--line);
  stroke-dasharray: 2 4; }
svg .edge { fill: var(--edge); } svg .cloud { fill: var(--cloud); } svg .wait { fill: var(--wait); }
svg .gone { fill: var(--gone); } svg .step { fill: var(--soft); opacity: .35; }
svg [data-k]:hover { opacity: .6; }
details summary { cursor: pointer; color: var(--soft); font-size: 13px; }
details pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 10px 0 0; font-size: 13.5px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 12.5px; margin-top: 10px; }
th, td { padding: 4px 10px; text-align: right; font-variant-numeric: tabular-nums; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 550; } th.l, td.l { text-align: left; }
.index a { display: flex; justify-content: space-between; gap: 18px; padding: 5px 0; font-size: 14px; }
.index a span:first-child { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.index a span:last-child { color: var(--soft); white-space: nowrap; }
article { margin-top: 34px; } .warn { color: var(--wait); }
@media print { .bar, .tip { display: none; } .card, .tile { break-inside: avoid; } }
"""
