"""`updraft bench stopping|overhead`: the benches of what decides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from updraft.cli.bench import (
    RESULTS,
    CloudModelOption,
    ContextOption,
    EdgeModelOption,
    OutOption,
    PinOption,
    RoundsOption,
    TokensOption,
    run_bench,
)
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, reported

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    """Add the verbs to the group `bench`."""
    group.command(
        "stopping",
        epilog=examples(
            "updraft bench stopping --data data",
            "updraft bench stopping --data data --drafter smollm2-student --head smollm2-student=head.safetensors",
            "updraft bench stopping --round-trip 0 --round-trip 40 --each 2 --tokens 32",
        ),
    )(stopping)
    group.command("overhead", epilog=examples("updraft bench overhead", "updraft bench overhead --rounds 9"))(overhead)


@reported
def stopping(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with spec_bench/question.jsonl; else built-in prompts.")
    ] = None,
    drafter: Annotated[list[str] | None, typer.Option(metavar="NAME|FILE", help="Edge model; may be repeated.")] = None,
    cloud_model: CloudModelOption = None,
    head: Annotated[
        list[str] | None, typer.Option(metavar="DRAFTER=FILE", help="Acceptance head of a drafter; may be repeated.")
    ] = None,
    round_trip: Annotated[
        list[float] | None, typer.Option(min=0.0, metavar="MS", help="Round trip of the link; may be repeated.")
    ] = None,
    length: Annotated[
        list[int] | None, typer.Option(min=1, max=48, metavar="N", help="Fixed run length; may be repeated.")
    ] = None,
    mode: Annotated[
        list[str] | None, typer.Option(metavar="MODE", help="Another mode for the real answers, such as lookup.")
    ] = None,
    each: Annotated[int | None, typer.Option(min=1, metavar="N", help="Prompts of every task, replayed.")] = None,
    real: Annotated[int | None, typer.Option(min=1, metavar="N", help="How many of them are answered, too.")] = None,
    tokens: TokensOption = None,
    longest_prompt: Annotated[
        int | None, typer.Option(min=8, metavar="N", help="Tokens of a replayed prompt, at most.")
    ] = None,
    longest_real: Annotated[
        int | None, typer.Option(min=8, metavar="N", help="Tokens of an answered prompt, at most.")
    ] = None,
    context: ContextOption = None,
    pin: PinOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Stop rules against every fixed run length, over links of several round trips.

    Some prompts are answered for real; many more are replayed exactly, with the costs that the real answers had. Exit
    code 1 if the cost-aware rule takes over 3 % longer than a link's best fixed length, or loses to one length overall.
    """
    run_bench(
        "stopping",
        "StoppingBench",
        out,
        as_json,
        data=data,
        drafters=drafter and tuple(drafter),
        cloud_model=cloud_model,
        heads=head and tuple(head),
        round_trips_ms=round_trip and tuple(round_trip),
        lengths=length and tuple(length),
        modes=mode and tuple(mode),
        each=each,
        real=real,
        tokens=tokens,
        longest_prompt=longest_prompt,
        longest_real=longest_real,
        context=context,
        pin=pin,
    )


@reported
def overhead(
    tokens: TokensOption = None,
    rounds: RoundsOption = None,
    edge_model: EdgeModelOption = None,
    context: ContextOption = None,
    pin: PinOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """What deciding costs: every stop rule and escalation score, per token, against the edge's own token time.

    Exit code 1 if one takes over 3 % of it.
    """
    run_bench(
        "overhead",
        "OverheadBench",
        out,
        as_json,
        tokens=tokens,
        rounds=rounds,
        edge_model=edge_model,
        context=context,
        pin=pin,
    )
