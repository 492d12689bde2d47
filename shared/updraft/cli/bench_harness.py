"""`updraft bench harness`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from updraft.cli.bench import RESULTS, CloudModelOption, ContextOption, EdgeModelOption, OutOption, run_bench
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, reported

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    """Add the verb to the group `bench`."""
    group.command(
        "harness",
        epilog=examples("updraft bench harness --data evaluation-data --lm-eval ~/lm-eval/bin/lm_eval --limit 200"),
    )(harness)


@reported
def harness(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with multiple_choice/TASK.jsonl.", show_default=False)
    ] = None,
    lm_eval: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The harness's command; the one on the path when left out.")
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the file; arc_easy when left out.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Items.")] = None,
    model: EdgeModelOption = None,
    cloud_model: CloudModelOption = None,
    context: ContextOption = None,
    out: OutOption = RESULTS,
    as_json: JsonOption = False,
) -> None:
    """lm-evaluation-harness as a client of the agent, beside `updraft eval` on the same items.

    The harness runs unmodified in an environment of its own (pip install "lm_eval[api]"), on a local task file, with
    prompts as texts and as token ids. Exit code 1 unless every item's scores are the same.
    """
    run_bench(
        "harness",
        "HarnessBench",
        out,
        as_json,
        data=data,
        lm_eval=lm_eval,
        task=task,
        limit=limit,
        model=model,
        cloud_model=cloud_model,
        context=context,
    )
