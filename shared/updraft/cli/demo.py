"""`updraft demo`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from updraft.cli.extras import needs_extra
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported, stderr

__all__ = ["register"]

QUICK_PROMPTS = 2
QUICK_TOKENS = 24


def register(app: typer.Typer) -> None:
    app.command(
        "demo",
        epilog=examples(
            "updraft demo",
            "updraft demo --quick",
            "updraft demo --edge-model smollm2-q4_0",
            "updraft demo --json > figures.json",
        ),
    )(demo)


@reported
def demo(
    prompts: Annotated[
        int | None, typer.Option(min=1, max=8, help="Prompts to compare the modes on; 6 when left out.")
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=8, max=512, help="Longest answer; 48 when left out.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="2 prompts of 24 tokens, one answer shown.")] = False,
    edge_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Model of the edge; smollm2-student when left out. smollm2-q4_0 makes a pair of one size.",
        ),
    ] = None,
    cloud_model: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Model of the cloud; smollm2 when left out.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the screen as a picture.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show both tiers at work on this machine; exit code 1 if one of its promises does not hold.

    The cloud runs as a process of its own. The modes are compared on real prompts, then the cloud is killed in
    mid-answer and started again. The promises: draft mode writes the cloud's own text, and the killed answer is
    completed by the edge.
    """
    from rich.console import Console

    from updraft.logging_setup import configure_logging

    with needs_extra("edge"):
        import updraft_edge.agent  # noqa: F401  # its libraries, before anything is started
    from updraft.demo import DemoOptions, Screen, run_demo

    configure_logging("error", "text")
    given: dict[str, Any] = {
        "prompts": prompts,
        "tokens": tokens,
        "edge_model": edge_model,
        "cloud_model": cloud_model,
    }
    options = DemoOptions(prompts=QUICK_PROMPTS, tokens=QUICK_TOKENS, shown=1) if quick else DemoOptions()
    options = replace(options, **{name: value for name, value in given.items() if value is not None})
    screen = Screen(stderr() if as_json else Console(), quiet=as_json, capture=svg is not None)
    report = asyncio.run(run_demo(options, screen))
    if as_json:
        print_json(report.to_json())
    if svg is not None:
        screen.save(svg)
    raise typer.Exit(0 if report.passed else 1)
