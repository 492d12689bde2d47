"""`updraft bench onnx|agreement`: the benches of engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from updraft.cli.bench import RESULTS, ContextOption, OutOption, PromptsOption, RoundsOption, TokensOption, run_bench
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, reported

__all__ = ["register"]

ModelOption = Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Model that all forms are made from.")]
ModelsOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Keep the exported forms here for the next run.")
]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="Threads of each engine; one a core when left out.")]


def register(group: typer.Typer) -> None:
    """Add the verbs to the group `bench`."""
    group.command("onnx", epilog=examples("updraft bench onnx", "updraft bench onnx --threads 1 --models /tmp/graphs"))(
        onnx
    )
    group.command(
        "agreement", epilog=examples("updraft bench agreement", "updraft bench agreement --prompts 20 --tokens 200")
    )(agreement)


@reported
def onnx(
    prompts: PromptsOption = None,
    tokens: TokensOption = None,
    rounds: RoundsOption = None,
    model: ModelOption = None,
    precision: Annotated[str | None, typer.Option(metavar="KIND", help="Weights: int4, int8 or fp32.")] = None,
    stages: Annotated[int | None, typer.Option(min=2, max=16, help="Stages of the staged form.")] = None,
    context: ContextOption = None,
    threads: ThreadsOption = None,
    models: ModelsOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Our ONNX engine against onnxruntime-genai's own generator: tokens a second, greedy, one sequence.

    Both take turns in one run on graphs of one build. Also with padded attention, which makes it exact, and in stages.
    """
    run_bench(
        "onnx",
        "OnnxBench",
        out,
        as_json,
        prompts=prompts,
        tokens=tokens,
        rounds=rounds,
        model=model,
        precision=precision,
        stages=stages,
        context=context,
        threads=threads,
        models=models,
    )


@reported
def agreement(
    prompts: PromptsOption = None,
    tokens: TokensOption = None,
    model: ModelOption = None,
    other: Annotated[
        list[str] | None, typer.Option(metavar="NAME|FILE", help="The same model requantised; may be repeated.")
    ] = None,
    threads: ThreadsOption = None,
    models: ModelsOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Divergence of each engine's distributions from the model in full precision, on the same text.

    llama.cpp and ONNX Runtime in their precisions against torch in float32. Exit code 1 unless ONNX Runtime in float32
    agrees to 1e-4.
    """
    run_bench(
        "agreement",
        "AgreementBench",
        out,
        as_json,
        prompts=prompts,
        tokens=tokens,
        model=model,
        others=other and tuple(other),
        threads=threads,
        models=models,
    )
