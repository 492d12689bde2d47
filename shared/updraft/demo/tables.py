"""What the demonstration shows besides the answers: what runs where, the figures, what to try next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from updraft.demo.report import Outage, Tier, WayFigures
from updraft.modes import Mode

__all__ = ["findings", "next_steps", "outage_lines", "pair_sentence", "place_table", "ways_table"]

_GOOD: Final = "green"
_BAD: Final = "bold red"

_READING: Final = (
    "A pass reads the large model's weights once; positions are its arithmetic. Both leave out the prompt. "
    "Rates and times are medians; T is the temperature."
)
_SERVE: Final = """updraft serve cloud    [dim]# in one terminal, or on another machine[/]
updraft serve edge     [dim]# in a second one: HTTP on 7070, gRPC on 7071[/]
updraft chat           [dim]# in a third one[/]"""
_CURL: Final = r"""curl http://127.0.0.1:7070/v1/chat/completions \
  -H 'content-type: application/json' \
  -d '{"model": "updraft", "messages":
       [{"role": "user", "content": "Why is the sky blue?"}]}'"""
_OPENAI: Final = """from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:7070/v1", api_key="none")
answer = client.chat.completions.create(
    model="updraft",
    messages=[{"role": "user", "content": "Why is the sky blue?"}],
    extra_body={"updraft": {"mode": "draft"}},
)"""


def place_table(edge: Tier, cloud: Tier) -> Table:
    """What runs where."""
    table = _table()
    for column in ("tier", "model", "weights", "process", "cores"):
        table.add_column(column, overflow="fold")
    for name, style, tier in (("edge", "green", edge), ("cloud", "bold cyan", cloud)):
        cores = "any" if tier.cores is None else _ranges(tier.cores)
        table.add_row(
            Text(name, style),
            escape(tier.model),
            f"{tier.quantisation}, {tier.weight_bytes / 1e6:.0f} MB",
            f"{tier.pid}, {tier.address or 'this one'}",
            f"{cores} ({tier.threads} thread{'s' if tier.threads > 1 else ''})",
        )
    return table


def pair_sentence(edge: Tier, cloud: Tier) -> str:
    """How much smaller the edge's model is."""
    if edge.layers >= cloud.layers:
        same = edge.layers == cloud.layers
        size = "as many layers as" if same else "more layers than"
        return f"The edge's model has {size} the cloud's: it stands in for a smaller one."
    origin = ", made of it by distillation" if (edge.model, cloud.model) == ("smollm2-student", "smollm2") else ""
    layers = f"{edge.layers} of the cloud's {cloud.layers} layers{origin}"
    return f"The edge's model has {layers}, and {edge.weight_bytes / cloud.weight_bytes:.0%} of its bytes."


def ways_table(rows: Sequence[WayFigures]) -> Table:
    """The figures of every way, with a line where the temperature changes."""
    table = _table()
    table.add_column("mode")
    for column in (
        "T",
        "tokens\n/s",
        "first\ntoken",
        "cloud\npasses\n/token",
        "cloud\npositions\n/token",
        "cloud\nshare",
        "bytes\nup\n/token",
        "bytes\ndown\n/token",
        "same\ntext as\ncloud",
    ):
        table.add_column(column, justify="right", vertical="bottom", no_wrap=True)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        ends = following is not None and following.temperature != row.temperature
        table.add_row(*_cells(row), end_section=ends)
    return table


def findings(rows: Sequence[WayFigures]) -> Iterator[Text]:
    """The table in sentences: how to read it, then one for each row of `draft` and `span`."""
    yield Text(_READING, "dim")
    for row in sorted(rows, key=lambda row: row.mode):  # `draft` before `span`
        if row.mode == Mode.DRAFT:
            kind = "greedy" if row.temperature == 0 else f"at temperature {row.temperature:g}"
            text = "the cloud's own text" if row.lossless else "NOT THE CLOUD'S OWN TEXT"
            yield Text.assemble(
                (f"draft {kind}: ", "bold"),
                (f"{text} ({row.same_text} of {row.prompts} prompts)", _style(row)),
                f" for {row.cloud_passes_per_token:.2f} cloud passes a token.",
            )
        elif row.mode == Mode.SPAN:
            yield Text.assemble(
                ("span: ", "bold"),
                f"the cloud wrote the {row.cloud_share:.0%} of the tokens where the edge was unsure. "
                "A trade, not lossless.",
            )
    degraded = sum(row.degraded for row in rows)
    if degraded:
        yield Text(f"{degraded} answers had to be finished by the edge alone: the cloud was away or late.", _BAD)


def outage_lines(outage: Outage) -> Group:
    """What the outage showed."""
    kept = outage.tokens - outage.alone
    survived = Text.assemble(
        ("The edge finished alone" if outage.survived else "NOT SURVIVED", "yellow" if outage.survived else _BAD),
        f" (degraded: {_yes(outage.degraded)}{f', {outage.reason}' if outage.reason else ''}). "
        f"The cloud was killed after {outage.killed_after} tokens; {kept} of {outage.tokens} had its word, "
        f"{outage.alone} are the edge's. Longest pause {outage.longest_pause_seconds:.1f} s.",
    )
    recovered = Text.assemble(
        ("The cloud is back" if outage.recovered else "NOT RECOVERED", _GOOD if outage.recovered else _BAD),
        f" (started in {outage.restart_seconds:.1f} s). "
        f"Next answer: {outage.next_tokens} tokens, {outage.next_cloud_passes} cloud passes, "
        f"degraded: {_yes(outage.next_degraded)}.",
    )
    return Group(survived, recovered)


def next_steps() -> Panel:
    """What to try next."""
    body: list[RenderableType] = [
        Text.from_markup(_SERVE),
        Text("\nAny OpenAI client works with the agent:", "bold"),
        Text(_CURL),
        "",
        Text(_OPENAI),
        Text("\nupdraft doctor   checks this machine;   updraft --help   lists the verbs", "dim"),
    ]
    return Panel(Group(*body), title="What to try next", border_style="cyan", padding=(1, 2))


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))


def _cells(row: WayFigures) -> list[RenderableType]:
    traffic = [row.cloud_passes_per_token, row.cloud_positions_per_token]
    volume = [row.bytes_up_per_token, row.bytes_down_per_token]
    passes, positions, up, down = (
        "-" if row.mode == Mode.EDGE else text
        for text in (*(f"{number:.2f}" for number in traffic), *(f"{number:.1f}" for number in volume))
    )
    reference = row.mode == Mode.CLOUD
    same = f"{_yes(row.lossless)} {row.same_text}/{row.prompts}"
    return [
        Text(row.mode, "bold"),
        f"{row.temperature:g}",
        f"{row.tokens_per_second:.0f}",
        f"{row.first_token_seconds * 1000:.0f} ms",
        passes,
        positions,
        f"{row.cloud_share:.0%}",
        up,
        down,
        Text("itself", "dim") if reference else Text(same, _style(row) if row.mode == Mode.DRAFT else ""),
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _style(row: WayFigures) -> str:
    return _GOOD if row.lossless else _BAD


def _ranges(cores: Sequence[int]) -> str:
    """`0-3,8` for 0, 1, 2, 3, 8."""
    runs: list[list[int]] = []
    for core in cores:
        if runs and core == runs[-1][-1] + 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
