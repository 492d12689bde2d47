"""`updraft bench pairs|ladder`: the benches that compare models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from updraft.cli.bench import (
    RESULTS,
    CloudModelOption,
    ContextOption,
    OutOption,
    PinOption,
    PromptsOption,
    RoundsOption,
    SeedOption,
    TemperatureOption,
    TokensOption,
    run_bench,
)
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, reported

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    """Add the verbs to the group `bench`."""
    group.command(
        "pairs", epilog=examples("updraft bench pairs", "updraft bench pairs --edge-model small.gguf --round-trip 40")
    )(pairs)
    group.command(
        "ladder",
        epilog=examples("updraft bench ladder", "updraft bench ladder --prompt-file questions.jsonl --no-staged"),
    )(ladder)


@reported
def pairs(
    edge_model: Annotated[
        list[str] | None, typer.Option(metavar="NAME|FILE", help="Edge model of a pair; may be repeated.")
    ] = None,
    alone: Annotated[bool | None, typer.Option("--alone", help="Let each edge model write by itself, too.")] = None,
    round_trip: Annotated[
        list[float] | None, typer.Option(min=0.0, metavar="MS", help="Round trip of the link; may be repeated.")
    ] = None,
    prompts: PromptsOption = None,
    tokens: TokensOption = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    cloud_model: CloudModelOption = None,
    context: ContextOption = None,
    pin: PinOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Mode draft with several edge models against one cloud: its passes and bytes a token, and the wall time.

    The baseline is mode cloud on the same link; the edge models are smollm2-q4_0 and smollm2-student when left out.
    """
    run_bench(
        "pairs",
        "PairsBench",
        out,
        as_json,
        edge_models=edge_model and tuple(edge_model),
        alone=alone,
        round_trips_ms=round_trip and tuple(round_trip),
        prompts=prompts,
        tokens=tokens,
        temperature=temperature,
        seed=seed,
        cloud_model=cloud_model,
        context=context,
        pin=pin,
    )


@reported
def ladder(
    prompts: Annotated[int | None, typer.Option(min=1, metavar="N", help="Prompts; 16 when left out.")] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prompts: .jsonl with prompt, question or turns; taken evenly from it."),
    ] = None,
    tokens: TokensOption = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, max=100.0, metavar="T", help="Of the sampled answers.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Sampled answers to each prompt.")] = None,
    rounds: RoundsOption = None,
    cloud_model: CloudModelOption = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME|FILE", help="A GGUF model, the full one first; may be repeated.")
    ] = None,
    staged: Annotated[
        str | None, typer.Option(metavar="NAME|FOLDER", help="The staged model; smollm2-staged when left out.")
    ] = None,
    no_staged: Annotated[bool, typer.Option("--no-staged", help="Leave ONNX Runtime out.")] = False,
    context: ContextOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each engine; 1 when left out.")] = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """What each rung of the ladder agrees with the cloud's model in, and what its tokens cost, in one table.

    The cloud's model writes answers, greedy and sampled. Every model, on llama.cpp and ONNX Runtime, is asked for each
    of their tokens after the cloud's own text; then all decode in turns.
    """
    run_bench(
        "ladder",
        "LadderBench",
        out,
        as_json,
        prompts=prompts,
        prompt_file=prompt_file,
        tokens=tokens,
        temperature=temperature,
        seeds=seeds,
        rounds=rounds,
        cloud_model=cloud_model,
        models=model and tuple(model),
        staged="" if no_staged else staged,
        context=context,
        threads=threads,
    )
