"""What every verb shares: how errors reach the person or program that called it, and the examples in its help."""

from __future__ import annotations

import functools
import json
import os
import traceback
from collections.abc import Callable
from typing import Any, Final, ParamSpec

import typer
from rich.console import Console
from rich.text import Text

from updraft.errors import ConfigError, InvalidRequest, UpdraftError

__all__ = ["DEBUG_VARIABLE", "debugging", "examples", "print_json", "reported", "stderr"]

DEBUG_VARIABLE: Final = "UPDRAFT_DEBUG"

P = ParamSpec("P")


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def stderr() -> Console:
    """A console on standard error, made anew because tests and shells replace the stream."""
    return Console(stderr=True, highlight=False)


def examples(*commands: str) -> str:
    """The end of a verb's help; `\\b` keeps each command on a line of its own."""
    return "\n".join(["\b", "Examples:" if len(commands) > 1 else "Example:", *(f"  {line}" for line in commands)])


def print_json(data: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def reported(verb: Callable[P, None]) -> Callable[P, None]:
    """Turn errors of a verb into a line, a remedy and an exit code: 2 for wrong input or settings, 1 for others.

    A verb whose parameter `as_json` is true also prints the error as JSON on standard output.
    """

    @functools.wraps(verb)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            verb(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # The reader went away; the interpreter would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(1) from None
        except Exception as error:
            _report(error, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(2 if isinstance(error, InvalidRequest | ConfigError) else 1) from None

    # Help shows line breaks as they are written: one line a paragraph fits every terminal.
    paragraphs = (verb.__doc__ or "").split("\n\n")
    wrapper.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return wrapper


def _report(error: Exception, *, as_json: bool) -> None:
    if debugging():
        traceback.print_exception(error)
    if not isinstance(error, UpdraftError):
        error = UpdraftError(
            f"{type(error).__name__}: {error}", remedy="Run it again with `updraft --debug` and report the traceback."
        )
    if as_json:
        body = {"code": error.code, "message": error.message, "remedy": error.remedy, "param": error.param}
        print_json({"error": body})
    console = stderr()
    console.print(Text.assemble(("error: ", "bold red"), (error.message, "red")), soft_wrap=True)
    console.print(Text(error.remedy), soft_wrap=True)
