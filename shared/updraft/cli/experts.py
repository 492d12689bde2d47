"""`updraft experts trace|simulate|train|plan|place`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from updraft.cli.experts_simulation import (
    bar_of,
    bytes_of,
    plot_rows,
    prompt_texts,
    regrouped,
    share_of,
    simulated,
    table_of_rows,
)
from updraft.cli.extras import needs_extra
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported

__all__ = ["register"]

_EXTRA = "cloud,experts"
_FILE_WIDTH = 140  # of tables that go to a file or a pipe
_BANDWIDTH = 25e9  # of PCIe 4.0 x 16, as copies reach it

TraceArgument = Annotated[Path, typer.Argument(metavar="TRACE", help="File written by `updraft experts trace`.")]
PolicyOption = Annotated[
    list[str] | None, typer.Option("--policy", metavar="NAME", help="Only this policy; may be repeated.")
]
BudgetOption = Annotated[
    list[str] | None, typer.Option("--budget", metavar="SIZE", help="Bytes such as 2GiB, or 25%; may be repeated.")
]
BandwidthOption = Annotated[
    float, typer.Option("--bandwidth", min=1e3, metavar="BYTES/S", help="Of the link to the device, such as 25e9.")
]
ExpertOption = Annotated[
    float | None, typer.Option("--expert-us", min=0, metavar="US", help="An expert on the device, microseconds.")
]
HostOption = Annotated[
    float | None,
    typer.Option("--host-us", min=0, metavar="US", help="An expert's token on the host: lets the host compute, too."),
]
DenseOption = Annotated[
    float | None, typer.Option("--dense-us", min=0, metavar="US", help="A layer without its experts, microseconds.")
]
PredictorOption = Annotated[
    Path | None, typer.Option("--predictor", metavar="FILE", help="File written by `updraft experts train`.")
]
GateOption = Annotated[float, typer.Option("--gate", min=0.05, max=1.0, help="Chance from which on is prefetched.")]
PlotOption = Annotated[Path | None, typer.Option("--plot", metavar="PNG", help="Draw the results.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of torch.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        no_args_is_help=True, help="Mixture-of-experts models larger than their device: what to keep on it."
    )
    group.command(
        "trace",
        epilog=examples(
            "updraft experts trace ./OLMoE-1B-7B --out routes.safetensors",
            "updraft experts trace ./model --prompts prompts.txt --draft 1 --tokens 128",
            "updraft experts trace ./model --prompts texts.jsonl --follow",
        ),
    )(trace)
    group.command(
        "simulate",
        epilog=examples(
            "updraft experts simulate routes.safetensors",
            "updraft experts simulate routes.safetensors --budget 10% --budget 4GiB --policy draft --bandwidth 12e9",
        ),
    )(simulate)
    group.command("train", epilog=examples("updraft experts train routes.safetensors --out predictor.safetensors"))(
        train
    )
    group.command(
        "plan",
        epilog=examples(
            "updraft experts plan routes.safetensors --stall 10% --plot plan.png",
            "updraft experts plan routes.safetensors --bytes 8GiB",
        ),
    )(plan)
    group.command("place", epilog=examples("updraft experts place routes.safetensors --devices 4"))(place)
    app.add_typer(group, name="experts", epilog=examples("updraft experts simulate routes.safetensors"))


@reported
def trace(
    model: Annotated[str, typer.Argument(metavar="NAME|DIR", help="A model that torch computes.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The trace.")] = Path("routes.safetensors"),
    prompts: Annotated[
        str | None, typer.Option(metavar="FILE", help="Prompts, one a line or JSON lines; else 50 built-in ones.")
    ] = None,
    most: Annotated[int | None, typer.Option("--most", min=1, metavar="N", help="Prompts, at most.")] = None,
    tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of each answer.")] = 64,
    draft: Annotated[int, typer.Option(min=1, max=48, metavar="N", help="Tokens of a run; 1: no drafts.")] = 4,
    acceptance: Annotated[float, typer.Option(min=0, max=1, help="Chance that a drafted token stands.")] = 0.75,
    together: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Answers at once.")] = 4,
    context: Annotated[int, typer.Option(min=64, metavar="N", help="Context of the engine, tokens.")] = 512,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="cpu, cuda or cuda:N.")] = None,
    threads: ThreadsOption = None,
    ahead: Annotated[bool, typer.Option("--ahead/--no-ahead", help="Record what looking a layer ahead says.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seed of which drafts are wrong.")] = 0,
    follow: Annotated[
        bool, typer.Option("--follow", help="Take each prompt's own end for the answer, not what the model writes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Let a mixture-of-experts model answer prompts, and record which experts every token chose.

    Drafts are the model's own answers with mistakes put in, so that runs, verdicts and rejected tokens are as in the
    cloud. The trace holds the prompts' and answers' token ids.
    """
    with needs_extra(_EXTRA):
        from updraft_cloud.experts.recording import RecordingJob, record
        from updraft_cloud.experts.trace import write_trace
    job = RecordingJob(_prompts(prompts, most), tokens, draft, acceptance, together, ahead, seed, follow)
    options: dict[str, Any] = {"context": context, "threads": threads, "device": device}
    given = {name: value for name, value in options.items() if value is not None}
    with bar_of("recording", len(job.prompts)) as (bar, task):
        found = record(model, job, progress=lambda done, total: bar.update(task, completed=done), **given)
    write_trace(out, found)
    shape = found.shape
    facts = {
        "path": str(out),
        "model": found.model,
        "rows": len(found),
        "passes": found.pass_count,
        "layers": shape.layers,
        "experts": shape.experts,
        "active": shape.active,
        "expert_bytes": shape.expert_bytes,
    }
    if as_json:
        print_json(facts)
    else:
        typer.echo(
            f"{out}: {len(found)} tokens in {found.pass_count} passes through {shape.layers} layers of {shape.experts} "
            f"experts of {shape.expert_bytes} bytes, {shape.active} for each token"
        )


@reported
def simulate(
    file: TraceArgument,
    policy: PolicyOption = None,
    budget: BudgetOption = None,
    bandwidth: BandwidthOption = _BANDWIDTH,
    expert_us: ExpertOption = None,
    host_us: HostOption = None,
    dense_us: DenseOption = None,
    predictor: PredictorOption = None,
    gate: GateOption = 0.5,
    group: Annotated[
        int | None,
        typer.Option(
            "--group", min=1, metavar="N", help="Also regroup runs into passes of N tokens by overlap of experts."
        ),
    ] = None,
    plot: PlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a trace under policies and budgets: hits, bytes moved, stalls and time.

    Beside them stand `lru`, the baseline, and `belady`, which knows the future: nothing that computes on the device
    moves less. A policy that loses to `lru` is marked. Costs that are not given are in a usual proportion to a copy.
    """
    with needs_extra(_EXTRA):
        from updraft_cloud.experts.trace import read_trace
    routes, costs = read_trace(file), (bandwidth, expert_us, host_us, dense_us)
    rows, _ = simulated(routes, policy, budget, costs, predictor, gate)
    grouped = [] if group is None else regrouped(routes, rows, group, costs)
    if as_json:
        print_json({"trace": str(file), "rows": rows, "groupings": grouped})
    else:
        from rich.console import Console

        console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)
        console.print(table_of_rows(rows))
        for row in grouped:
            console.print(
                f"{row['budget_share']:.0%}, passes by {row['grouping']}: {row['experts_per_pass']:.1f} experts each, "
                f"{row['bytes_moved'] / 2**20:.1f} MiB moved, {row['seconds']:.3g} s"
            )
    plot_rows(plot, rows)


@reported
def train(
    file: TraceArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The predictor.")] = Path("predictor.safetensors"),
    epochs: Annotated[int, typer.Option(min=1, metavar="N", help="Passes over the trace.")] = 30,
    held_out: Annotated[float, typer.Option(min=0.05, max=0.5, help="Last share of the passes, to measure on.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the predictor of the policies `trained` and `layers-trained`: from tokens to the experts of all layers."""
    with needs_extra(_EXTRA):
        import torch

        from updraft_cloud.experts.predictor import write_predictor
        from updraft_cloud.experts.predictor_training import measure_predictor, train_predictor
        from updraft_cloud.experts.trace import read_trace
    if threads is not None:
        torch.set_num_threads(threads)
    routes = read_trace(file)
    cut = max(1, round(routes.pass_count * (1.0 - held_out)))
    with bar_of("training", epochs) as (bar, task):
        found = train_predictor(
            routes.part(0, cut), epochs=epochs, seed=seed, progress=lambda text: bar.update(task, advance=1)
        )
    rest = routes.part(cut, routes.pass_count) if cut < routes.pass_count else routes
    right = measure_predictor(found, rest)
    write_predictor(out, found)
    if as_json:
        print_json({"path": str(out), "held_out_rows": len(rest), **right})
    else:
        typer.echo(
            f"{out}: on {len(rest)} tokens held out, {right['precision']:.1%} of what it foretells is needed, and it "
            f"foretells {right['recall']:.1%} of what is"
        )


@reported
def plan(
    file: TraceArgument,
    stall: Annotated[
        str | None, typer.Option("--stall", metavar="SHARE", help="Goal: at most this share of the time stalled.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--bytes", metavar="SIZE", help="Goal: the fastest within these bytes of the device.")
    ] = None,
    policy: PolicyOption = None,
    budget: BudgetOption = None,
    bandwidth: BandwidthOption = _BANDWIDTH,
    expert_us: ExpertOption = None,
    host_us: HostOption = None,
    dense_us: DenseOption = None,
    predictor: PredictorOption = None,
    gate: GateOption = 0.5,
    plot: PlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend a budget and a policy for a goal, from simulations of a trace."""
    with needs_extra(_EXTRA):
        from updraft_cloud.experts.advice import DEFAULT_SHARES, advise
        from updraft_cloud.experts.trace import read_trace
    routes = read_trace(file)
    budgets = budget or [f"{share:.0%}" for share in DEFAULT_SHARES]
    costs = (bandwidth, expert_us, host_us, dense_us)
    rows, whole = simulated(routes, policy, budgets, costs, predictor, gate)
    goals = {"stall_share": share_of(stall), "device_bytes": None if size is None else bytes_of(size, whole)}
    advice = advise(rows, **goals)  # type: ignore[arg-type]  # bytes are whole numbers
    if as_json:
        print_json({"trace": str(file), "advice": advice.row, "reason": advice.reason, "rows": rows})
    else:
        row = advice.row
        typer.echo(
            f"--expert-budget {row['device_bytes']} --expert-policy {row['policy']}: {advice.reason}\n"
            f"{row['budget_share']:.0%} of the experts on the device, hits {row['hit_rate']:.1%}, stalled "
            f"{row['stall_share']:.1%} of the time, {row['ms_per_pass']:.3g} ms a pass, {row['time_vs_lru']:.2f} of "
            "what lru takes there"
        )
    plot_rows(plot, rows)


@reported
def place(
    file: TraceArgument,
    devices: Annotated[int, typer.Option("--devices", min=1, max=1024, metavar="N", help="Devices.")] = 2,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The plan.")] = Path("placement.json"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the starts, and of the random placement.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Share the experts out over several devices, so that tokens seldom cross from one to another.

    The first half of the trace is learned from, and the crossings are counted on the other.
    """
    with needs_extra(_EXTRA):
        from updraft_cloud.experts import placement
        from updraft_cloud.experts.trace import read_trace
    routes = read_trace(file)
    cut = max(1, routes.pass_count // 2)
    learned = placement.hops(routes.part(0, cut))
    counted = placement.hops(routes.part(cut, routes.pass_count)) if cut < routes.pass_count else learned
    shape = routes.shape
    found = placement.place(learned, shape, devices, seed=seed)
    placement.write_plan(out, placement.PlacementPlan(shape, devices, found, routes.model, routes.fingerprint))
    shares = {
        "placed": placement.crossing_share(counted, found),
        "round_robin": placement.crossing_share(counted, placement.round_robin(shape, devices)),
        "random": placement.crossing_share(counted, placement.random_plan(shape, devices, seed)),
    }
    if as_json:
        print_json({"path": str(out), "devices": devices, "crossing_share": shares})
    else:
        typer.echo(
            f"{out}: {shares['placed']:.1%} of the hops cross between {devices} devices; round robin "
            f"{shares['round_robin']:.1%}, at random {shares['random']:.1%}"
        )


def _prompts(source: str | None, most: int | None) -> list[str]:
    if source is None:
        from updraft.cli.bench import bench_module

        return list(bench_module("prompts").PROMPTS[:most])
    return prompt_texts(source, most)
