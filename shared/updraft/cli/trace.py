"""`updraft trace`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported, stderr
from updraft.errors import ConfigError, InvalidRequest

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Look at what was decided on every token of an answer.")
    group.command(
        "show",
        epilog=examples(
            "updraft run --trace sky.jsonl 'Why is the sky blue?'",
            "updraft trace show sky.jsonl",
            "updraft trace show sky.jsonl --out sky.html --open",
        ),
    )(show)
    app.add_typer(group, name="trace", epilog=examples("updraft trace show sky.jsonl --out sky.html"))


@reported
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Trace that `updraft run --trace FILE` wrote.")],
    answer: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only this answer of the file, counted from 1.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="HTML", help="Write a page instead of printing.")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page that --out writes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The answer in the colours of those who wrote it, brighter where they were less sure, with rejected drafts.

    With --out a page on which every token tells what was decided on it: one file that loads nothing and runs no script.
    """
    from updraft.traces.files import read_traces

    answers = read_traces(file)
    if answer is not None:
        if answer > len(answers):
            raise InvalidRequest(f"{file} holds {len(answers)} answers; there is no answer {answer}.", param="answer")
        answers = answers[answer - 1 : answer]
    if as_json:
        from pydantic import TypeAdapter

        from updraft.traces.files import AnswerTrace

        whole = TypeAdapter(AnswerTrace)
        print_json([{"text": one.text, **whole.dump_python(one, mode="json")} for one in answers])
    elif out is None:
        from rich.console import Console

        from updraft.traces.terminal import show_traces

        show_traces(answers, Console(highlight=False))
        stderr().print(f"a page of it: updraft trace show {file} --out trace.html", style="dim", markup=False)
    if out is not None:
        from updraft.traces.page import trace_page

        _write(out, trace_page(answers, name=file.name))
        stderr().print(f"wrote {out}", style="dim", markup=False, soft_wrap=True)
        if open_page:
            typer.launch(out.resolve().as_uri())
    elif open_page:
        raise InvalidRequest("--open shows the page that --out writes.", remedy="Give --out trace.html as well.")


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.", remedy="Name another file.") from error
