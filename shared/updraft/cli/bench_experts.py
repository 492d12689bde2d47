"""`updraft bench experts`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from updraft.cli.bench import RESULTS, OutOption, RoundsOption, run_bench
from updraft.cli.experts_simulation import prompt_texts
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, reported
from updraft.errors import ConfigError

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    """Add the verb to the group `bench`."""
    group.command(
        "experts",
        epilog=examples(
            "updraft bench experts",
            "updraft bench experts --budget 0.3 --copy-ratio 10",
            "updraft bench experts --soak 30 --model smollm2-moe",
            "updraft bench experts --model smollm2-moe",
        ),
    )(experts)


@reported
def experts(
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|DIR", help="Mixture of experts that torch computes; else random weights."),
    ] = None,
    budget: Annotated[
        list[float] | None, typer.Option(min=0.01, max=1.0, metavar="SHARE", help="Of all experts; may be repeated.")
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Besides the baseline lru; may be repeated.")
    ] = None,
    copy_ratio: Annotated[
        float | None, typer.Option(min=0.01, metavar="X", help="A copy's time over an expert's for one token.")
    ] = None,
    host_slowdown: Annotated[
        float | None, typer.Option(min=1.0, metavar="X", help="An expert's time on the host over the device's.")
    ] = None,
    passes: Annotated[int | None, typer.Option(min=1, metavar="N", help="Passes of a round.")] = None,
    draft: Annotated[int | None, typer.Option(min=1, metavar="N", help="Tokens of a run.")] = None,
    sessions: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="With a model: sessions that wait for passes.")
    ] = None,
    pass_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With a model: tokens of a pass that sessions share.")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(metavar="FILE", help="With a model: texts of the sessions; else built-in prompts.")
    ] = None,
    rounds: RoundsOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch.")] = None,
    soak: Annotated[
        float | None,
        typer.Option(
            min=0.01, metavar="MINUTES", help="Prompts of changing topics through one store instead: does memory grow?"
        ),
    ] = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """Experts under a budget, over a throttled link: policies against demand loading, the host, and all resident.

    With a model also its sessions in passes that do not hold all: in turn, and by the experts that they need.

    Exit code 1 if a single bit differs from resident experts, or the default policy is over 3 % slower than lru; with
    --soak, of smollm2-moe unless a model is named, if memory grows or the budget is exceeded.
    """
    if soak is not None:
        given: dict[str, Any] = {
            "--copy-ratio": copy_ratio,
            "--host-slowdown": host_slowdown,
            "--passes": passes,
            "--rounds": rounds,
        }
        given |= {"--sessions": sessions, "--pass-tokens": pass_tokens, "--prompts": prompts}
        _soak(given, budget or [], policy or [], out, as_json, minutes=soak, model=model, draft=draft, threads=threads)
        return
    run_bench(
        "experts",
        "ExpertsBench",
        out,
        as_json,
        model=model,
        shares=budget and tuple(budget),
        policies=policy and tuple(policy),
        copy_ratio=copy_ratio,
        host_slowdown=host_slowdown,
        passes=passes,
        draft=draft,
        sessions=sessions,
        pass_tokens=pass_tokens,
        prompts=prompts and tuple(prompt_texts(prompts)),
        rounds=rounds,
        threads=threads,
    )


def _soak(
    given: dict[str, Any], budgets: list[float], policies: list[str], out: Path, as_json: bool, **options: Any
) -> None:
    """One store, so one budget and one policy. Raises ConfigError for options that only the comparison has."""
    wrong = [name for name, value in given.items() if value is not None]
    wrong += ["a second --budget"] * (len(budgets) > 1) + ["a second --policy"] * (len(policies) > 1)
    if wrong:
        raise ConfigError(f"--soak does not go with {', '.join(wrong)}", remedy="Leave it out.")
    options |= {"share": budgets[0] if budgets else None, "policy": policies[0] if policies else None}
    run_bench("experts_soak", "ExpertsSoak", out, as_json, **options)
