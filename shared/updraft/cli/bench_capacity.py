"""`updraft bench capacity|passes|simulation`: how many sessions one cloud carries."""

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

RecordingOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Drafts that were recorded before (drafts.json).")
]


def register(group: typer.Typer) -> None:
    """Add the verbs to the group `bench`."""
    group.command(
        "capacity",
        epilog=examples(
            "updraft bench capacity --data data",
            "updraft bench capacity --data data --trace mooncake --recording bench/results/drafts.json",
            "updraft bench capacity --sessions 2 --sessions 4 --load 0.6 --overload 3 --seconds 5 --rounds 1",
        ),
    )(capacity)
    group.command(
        "passes",
        epilog=examples("updraft bench passes", "updraft bench passes --model smollm2 --width F32 --threads 1"),
    )(passes)
    group.command(
        "simulation",
        epilog=examples(
            "updraft bench simulation",
            "updraft bench simulation --curve other-machine.json --round-trip 20 --length 4 --draft-ms 8",
            "updraft bench simulation --line 50:0.5 --round-trip 20 --draft-ms 6",
        ),
    )(simulation)


@reported
def capacity(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with spec_bench and the traces; else drawn ones.")
    ] = None,
    trace: Annotated[str | None, typer.Option(metavar="NAME", help="Arrivals: azure, mooncake or poisson.")] = None,
    recording: RecordingOption = None,
    edge_model: EdgeModelOption = None,
    cloud_model: CloudModelOption = None,
    each: Annotated[int | None, typer.Option(min=1, metavar="N", help="Prompts of every task, recorded.")] = None,
    tokens: TokensOption = None,
    longest_prompt: Annotated[int | None, typer.Option(min=8, metavar="N", help="Tokens of a prompt, at most.")] = None,
    sessions: Annotated[
        list[int] | None, typer.Option(min=1, metavar="N", help="Sessions at once; may be repeated.")
    ] = None,
    load: Annotated[
        list[float] | None,
        typer.Option(metavar="SHARE", help="Arrivals, as a share of what the cloud can write; may be repeated."),
    ] = None,
    overload: Annotated[
        list[float] | None,
        typer.Option(metavar="TIMES", help="Arrivals, times what mode cloud carries; may be repeated."),
    ] = None,
    rounds: RoundsOption = None,
    seconds: Annotated[float | None, typer.Option(metavar="S", help="In which sessions begin, each trial.")] = None,
    token_ms: Annotated[float | None, typer.Option(metavar="MS", help="Objective: mean time between tokens.")] = None,
    first_ms: Annotated[float | None, typer.Option(metavar="MS", help="Objective: time to the first token.")] = None,
    pause_ms: Annotated[float | None, typer.Option(metavar="MS", help="Objective: longest pause.")] = None,
    share: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Objective: share of the answers that must hold it.")
    ] = None,
    links: Annotated[int | None, typer.Option(min=1, metavar="N", help="Links, each with its own delay.")] = None,
    sequences: Annotated[int | None, typer.Option(min=1, metavar="N", help="Sequences of the cloud's engine.")] = None,
    context: ContextOption = None,
    pin: PinOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Sessions that one cloud carries within a service objective: mode draft against mode cloud, and under overload.

    Edges replay drafts of the real pair at their recorded pace, over the agent's own protocol, with its stop rule and
    policy; cloud and links are real. Exit code 1 if draft carries over 3 % fewer sessions than cloud, a text is not the
    cloud's, or goodput falls under overload.
    """
    run_bench(
        "capacity",
        "CapacityBench",
        out,
        as_json,
        data=data,
        trace=trace,
        recording=recording,
        keep=out,
        edge_model=edge_model,
        cloud_model=cloud_model,
        each=each,
        tokens=tokens,
        longest_prompt=longest_prompt,
        sessions=sessions and tuple(sessions),
        loads=load and tuple(load),
        overload=overload and tuple(overload),
        rounds=rounds,
        seconds=seconds,
        token_ms=token_ms,
        first_ms=first_ms,
        pause_ms=pause_ms,
        share=share,
        links=links,
        sequences=sequences,
        context=context,
        pin=pin,
    )


@reported
def passes(
    model: Annotated[list[str] | None, typer.Option(metavar="NAME|FILE", help="Model; may be repeated.")] = None,
    width: Annotated[
        list[str] | None, typer.Option(metavar="F16|F32", help="The same weights, widened; may be repeated.")
    ] = None,
    sequences: Annotated[
        list[int] | None, typer.Option(min=1, metavar="N", help="Sequences in a pass; may be repeated.")
    ] = None,
    each: Annotated[
        list[int] | None, typer.Option(min=1, metavar="N", help="Positions of each of them; may be repeated.")
    ] = None,
    largest: Annotated[int | None, typer.Option(min=2, metavar="N", help="Positions in a pass, at most.")] = None,
    rounds: RoundsOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; one a core when left out.")] = None,
    context: ContextOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """What a forward pass takes against its sequences and positions, for a model as it is and widened.

    The same weights in F16 and F32 are the same work with more memory traffic: a pass of them is memory-bound longer.
    Writes the curves that `updraft bench simulation` reads.
    """
    run_bench(
        "passes",
        "PassesBench",
        out,
        as_json,
        models=model and tuple(model),
        widths=width and tuple(width),
        sequences=sequences and tuple(sequences),
        each=each and tuple(each),
        largest=largest,
        rounds=rounds,
        threads=threads,
        context=context,
    )


@reported
def simulation(
    recording: RecordingOption = None,
    curve: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Curves of passes (passes.json); may be repeated.")
    ] = None,
    line: Annotated[
        list[str] | None,
        typer.Option(metavar="MS:MS", help="A pass and each position in it, assumed in place of a curve; repeatable."),
    ] = None,
    round_trip: Annotated[
        list[float] | None, typer.Option(min=0.0, metavar="MS", help="Round trip of the links; may be repeated.")
    ] = None,
    length: Annotated[
        list[int] | None, typer.Option(min=1, max=16, metavar="N", help="Fixed run length; may be repeated.")
    ] = None,
    tightness: Annotated[
        list[float] | None,
        typer.Option(metavar="TIMES", help="Objective: time between tokens, in bare passes; may be repeated."),
    ] = None,
    sequences: Annotated[int | None, typer.Option(min=1, metavar="N", help="Sessions in a pass, at most.")] = None,
    draft_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="Time of a drafted token, in place of the recorded one.")
    ] = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Sessions that a cloud would carry where passes take what was measured, by run length, link and objective.

    A simulation of discrete events with the agent's own stop rule and policy, fed with recorded drafts; beside it the
    bound 1 + g td/tv of Speculation at a Distance (arXiv 2606.25091) over drafting in the cloud.
    """
    run_bench(
        "simulation",
        "SimulationBench",
        out,
        as_json,
        recording=recording or out / "drafts.json",
        curves=tuple(curve) if curve else () if line else (out / "passes.json",),
        lines=line and tuple(line),
        round_trips_ms=round_trip and tuple(round_trip),
        lengths=length and tuple(length),
        tightness=tightness and tuple(tightness),
        sequences=sequences,
        draft_ms=draft_ms,
    )
