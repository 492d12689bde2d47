"""`updraft bench`: the group of its verbs, and what they share."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from updraft.cli.extras import needs_extra
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported, stderr
from updraft.errors import ConfigError

__all__ = [
    "RESULTS",
    "CloudModelOption",
    "ContextOption",
    "OutOption",
    "PinOption",
    "PromptsOption",
    "RoundsOption",
    "SeedOption",
    "TemperatureOption",
    "TokensOption",
    "bench_module",
    "register",
    "run_bench",
]

_PACKAGE = "updraft._bench"  # where a wheel has what the source tree has in bench/

OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the JSON file and the plot.")]
PromptsOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Prompts, of 50.")]
TokensOption = Annotated[int | None, typer.Option(min=2, metavar="N", help="Tokens of each answer.")]
RoundsOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Repetitions.")]
TemperatureOption = Annotated[float | None, typer.Option(min=0.0, max=100.0, metavar="T", help="0 is greedy.")]
SeedOption = Annotated[int | None, typer.Option(min=0, metavar="N", help="Seed of sampling and of random moments.")]
EdgeModelOption = Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Edge model.")]
CloudModelOption = Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Cloud model.")]
ContextOption = Annotated[int | None, typer.Option(min=64, metavar="N", help="Context of the engines, tokens.")]
PinOption = Annotated[
    bool | None, typer.Option("--pin/--no-pin", help="Keep the tiers on different cores, where the system can.")
]
RESULTS = Path("bench/results")


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        no_args_is_help=True, help="Measure Updraft against its baselines on this machine; best on an idle one."
    )
    group.command("edge", epilog=examples("updraft bench edge", "updraft bench edge --threads 1 --rounds 15"))(edge)
    group.command(
        "modes",
        epilog=examples(
            "updraft bench modes",
            "updraft bench modes --round-trip 40 --mode draft --mode cloud --stop fixed:4 --stop risk",
            "updraft bench modes --round-trip 60 --trace link.jsonl",
        ),
    )(modes)
    group.command("lossless", epilog=examples("updraft bench lossless", "updraft bench lossless --quick"))(lossless)
    group.command("concurrency", epilog=examples("updraft bench concurrency --clients 8 --agents 16"))(concurrency)
    from updraft.cli import (
        bench_auto,
        bench_batching,
        bench_calibration,
        bench_capacity,
        bench_exit,
        bench_experts,
        bench_faults,
        bench_forks,
        bench_fuzz,
        bench_harness,
        bench_lookup,
        bench_models,
        bench_onnx,
        bench_reason,
        bench_soak,
        bench_stopping,
        bench_strategies,
    )  # they need the options of this module

    bench_auto.register(group)
    bench_batching.register(group)
    bench_calibration.register(group)
    bench_capacity.register(group)
    bench_exit.register(group)
    bench_experts.register(group)
    bench_faults.register(group)
    bench_forks.register(group)
    bench_fuzz.register(group)
    bench_harness.register(group)
    bench_lookup.register(group)
    bench_models.register(group)
    bench_onnx.register(group)
    bench_reason.register(group)
    bench_soak.register(group)
    bench_stopping.register(group)
    bench_strategies.register(group)
    app.add_typer(group, name="bench", epilog=examples("updraft bench modes"))


@reported
def edge(
    prompts: PromptsOption = None,
    tokens: TokensOption = None,
    rounds: RoundsOption = None,
    model: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Model of all three.")] = None,
    context: ContextOption = None,
    sequences: Annotated[int | None, typer.Option(min=1, help="Sequences of the agent's engine.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each; one a core when left out.")] = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """The agent's edge mode against a bare llama.cpp loop and llama-cpp-python's own generate loop.

    All three take turns in one run, on the same model file, threads and prompts, greedily. Rates leave out the first
    token.
    """
    run_bench(
        "edge",
        "EdgeBench",
        out,
        as_json,
        prompts=prompts,
        tokens=tokens,
        rounds=rounds,
        model=model,
        context=context,
        sequences=sequences,
        threads=threads,
    )


@reported
def modes(
    round_trip: Annotated[
        list[float] | None, typer.Option(min=0.0, metavar="MS", help="Round trip of the link; may be repeated.")
    ] = None,
    mode: Annotated[list[str] | None, typer.Option(metavar="MODE", help="Only this mode; may be repeated.")] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE[:VALUE]", help="Stop rule of draft, such as fixed:4; may be repeated."),
    ] = None,
    prompts: PromptsOption = None,
    tokens: TokensOption = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    bandwidth: Annotated[
        float | None, typer.Option(metavar="MBIT", help="Bandwidth of each direction, Mbit/s.")
    ] = None,
    trace: Annotated[Path | None, typer.Option(metavar="FILE", help="Bandwidth over time instead.")] = None,
    trace_name: Annotated[str | None, typer.Option(metavar="NAME", help="Which trace of a .jsonl file.")] = None,
    edge_model: EdgeModelOption = None,
    cloud_model: CloudModelOption = None,
    context: ContextOption = None,
    pin: PinOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Every mode over an emulated link at several round trips; the baseline is mode cloud on the same link.

    The cloud is a process of its own. Writes a table, a JSON file and a plot.
    """
    run_bench(
        "modes",
        "ModesBench",
        out,
        as_json,
        round_trips_ms=round_trip and tuple(round_trip),
        modes=mode and tuple(mode),
        stops=stop and tuple(stop),
        prompts=prompts,
        tokens=tokens,
        temperature=temperature,
        seed=seed,
        bandwidth_mbps=bandwidth,
        trace=trace,
        trace_name=trace_name,
        edge_model=edge_model,
        cloud_model=cloud_model,
        context=context,
        pin=pin,
    )


@reported
def lossless(
    prompts: PromptsOption = None,
    tokens: TokensOption = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, max=100.0, metavar="T", help="Of the part that samples; 0 leaves it out.")
    ] = None,
    seed: SeedOption = None,
    case: Annotated[
        list[str] | None, typer.Option(metavar="CASE", help="plain, relay, together or cut; may be repeated.")
    ] = None,
    round_trip: Annotated[float | None, typer.Option(min=0.0, metavar="MS", help="Of the case relay.")] = None,
    together: Annotated[int | None, typer.Option(min=1, max=16, help="Answers at once in the case together.")] = None,
    cuts: Annotated[int | None, typer.Option(min=1, help="Cuts during each answer of the case cut.")] = None,
    ignore_end: Annotated[bool | None, typer.Option("--ignore-end", help="Write past the model's end tokens.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="5 prompts, 24 tokens, unless given.")] = False,
    edge_model: EdgeModelOption = None,
    cloud_model: CloudModelOption = None,
    context: ContextOption = None,
    pin: PinOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Whether mode draft writes exactly the cloud's text: plain, over a slow link, in company, and cut off.

    Exit code 1 if a single answer differs. The baseline of its costs is mode cloud.
    """
    few = {"prompts": 5, "tokens": 24} if quick else {"prompts": None, "tokens": None}
    run_bench(
        "lossless",
        "LosslessBench",
        out,
        as_json,
        prompts=prompts or few["prompts"],
        tokens=tokens or few["tokens"],
        temperature=temperature,
        seed=seed,
        cases=case and tuple(case),
        round_trip_ms=round_trip,
        together=together,
        cuts=cuts,
        ignore_end=ignore_end,
        edge_model=edge_model,
        cloud_model=cloud_model,
        context=context,
        pin=pin,
    )


@reported
def concurrency(
    clients: Annotated[int | None, typer.Option(min=0, help="SDK clients against one agent.")] = None,
    agents: Annotated[
        int | None, typer.Option(min=0, help="Agents, each with its own engine, against one cloud.")
    ] = None,
    tokens: TokensOption = None,
    rounds: RoundsOption = None,
    temperature: TemperatureOption = None,
    edge_model: EdgeModelOption = None,
    cloud_model: CloudModelOption = None,
    context: ContextOption = None,
    agent_context: Annotated[int | None, typer.Option(min=64, metavar="N", help="Context of each agent.")] = None,
    pin: PinOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Many clients of one agent, and many agents of one cloud: does each get the text that it gets alone?

    Exit code 1 if a single answer differs. The baseline of the rates is one after the other.
    """
    run_bench(
        "concurrency",
        "ConcurrencyBench",
        out,
        as_json,
        clients=clients,
        agents=agents,
        tokens=tokens,
        rounds=rounds,
        temperature=temperature,
        edge_model=edge_model,
        cloud_model=cloud_model,
        context=context,
        agent_context=agent_context,
        pin=pin,
    )


def bench_module(name: str) -> Any:
    """A module of the benches: from the installed package, else from the source tree around this file.

    Raises:
        ConfigError: neither has them.
    """
    if importlib.util.find_spec(_PACKAGE) is None:
        folder = Path(__file__).resolve().parents[3] / "bench"
        init = folder / "__init__.py"
        if not init.is_file():
            raise ConfigError("The benches are not installed.", remedy="Install Updraft again.")
        spec = importlib.util.spec_from_file_location(_PACKAGE, init, submodule_search_locations=[str(folder)])
        assert spec is not None and spec.loader is not None  # noqa: S101 (a file's spec has a loader)
        package = importlib.util.module_from_spec(spec)
        sys.modules[_PACKAGE] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"{_PACKAGE}.{name}")


def run_bench(name: str, kind: str, out: Path, as_json: bool, **options: Any) -> None:
    """Run a bench with the options that were given, the others at their defaults, and print what it found."""
    from updraft.logging_setup import configure_logging

    with needs_extra("edge,cloud"):
        module, report = bench_module(name), bench_module("report")
    configure_logging("error", "text")
    bench = getattr(module, kind)(**{key: value for key, value in options.items() if value is not None})
    done = report.run(bench, out=out)
    if as_json:
        print_json(done.document)
    else:
        report.show(done)
    if done.no_plot is not None:
        stderr().print(f"no plot: {done.no_plot.message} {done.no_plot.remedy}", markup=False, soft_wrap=True)
    stderr().print(*(f"written: {file}" for file in done.files), sep="\n", markup=False, soft_wrap=True)
    raise typer.Exit(0 if done.passed else 1)
