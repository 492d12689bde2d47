"""The command line. One file a verb; each has `register(app)`, and a new verb is one more name in `VERBS`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from updraft import __version__
from updraft.cli import (
    auto,
    bench,
    calibrate,
    certs,
    chat,
    compose,
    configure,
    demo,
    doctor,
    evaluate,
    experts,
    models,
    ping,
    run,
    serve,
    tokens,
    trace,
    train,
    verify,
)
from updraft.cli.reporting import DEBUG_VARIABLE, examples

__all__ = ["app", "main"]

VERBS = (
    demo,
    run,
    chat,
    compose,
    trace,
    auto,
    serve,
    certs,
    tokens,
    models,
    ping,
    train,
    calibrate,
    evaluate,
    verify,
    experts,
    doctor,
    bench,
    configure,
)

app = typer.Typer(
    name="updraft",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("updraft run 'Why is the sky blue?'", "updraft serve edge", "updraft doctor"),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"updraft {__version__}")
        raise typer.Exit


@app.callback()
def updraft(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print tracebacks of errors, as UPDRAFT_DEBUG=1 does.")
    ] = False,
) -> None:
    """A small model on this device writes, a large one in the cloud helps where it is needed."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


for verb in VERBS:
    verb.register(app)


def main() -> None:
    """Entry point of the `updraft` command."""
    app()
