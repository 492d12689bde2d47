"""Options that say who judges answers, and what they open."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from updraft.cli.extras import needs_extra
from updraft.errors import InvalidRequest

if TYPE_CHECKING:
    from updraft.verifiers import Resources
    from updraft.verifiers.base import Asked

__all__ = [
    "ContextOption",
    "ExecuteCodeOption",
    "ModelOption",
    "ProgramOption",
    "RecordsOption",
    "RewardOption",
    "UnconfinedCodeOption",
    "VerifierOption",
    "resources_of",
    "spec_of",
]

VerifierOption = Annotated[
    str,
    typer.Option(
        "--verifier", metavar="SPEC", help='A name, such as reward, or JSON: \'{"kind": "number", "value": 42}\'.'
    ),
]
ModelOption = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="Model that is asked by self and generative.")
]
RewardOption = Annotated[
    str | None,
    typer.Option(
        "--reward", metavar="NAME|FILE|JSON", help="Reward model, or its settings as JSON or in a .json file."
    ),
]
ProgramOption = Annotated[
    list[str] | None,
    typer.Option("--program", metavar="NAME=COMMAND", help="A program for the verifier command; may be repeated."),
]
ExecuteCodeOption = Annotated[bool, typer.Option("--execute-code", help="Run the code of answers, for unit-tests.")]
UnconfinedCodeOption = Annotated[
    bool, typer.Option("--unconfined-code", help="Also where the system can only limit its time and memory.")
]
RecordsOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of measured rates; Updraft's own when left out.")
]
ContextOption = Annotated[int, typer.Option(min=64, metavar="N", help="Context of the model that is asked, tokens.")]


def spec_of(text: str) -> Any:
    """A name as it is; else JSON."""
    return _json(text, "--verifier") if text.lstrip().startswith("{") else text


def _json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidRequest(
            f"{option} is not JSON: {error}.", remedy="Put the object in single quotes.", param=option.strip("-")
        ) from error


@contextlib.contextmanager
def resources_of(
    model: str | None,
    reward: str | None,
    programs: list[str] | None,
    execute_code: bool,
    unconfined_code: bool,
    records: Path | None,
    context: int = 2048,
    *,
    reader: Asked | None = None,
) -> Iterator[Resources]:
    """What the options name, opened, and freed at the end; `reader` is asked where no model is named."""
    from updraft.sampling import SamplingParams
    from updraft.verifiers import Resources

    with contextlib.ExitStack() as stack, needs_extra("edge"):
        rewards = {}
        if model is not None:
            from updraft.engine import open_engine
            from updraft.engine.loop import EngineLoop
            from updraft.strategies import EnginePlaces, Forks

            loop = EngineLoop(open_engine(model, context=context))
            stack.callback(loop.stop)
            loop.start()
            reader = Forks(loop, EnginePlaces(loop.engine), SamplingParams(seed=0))
        if reward is not None:
            from updraft.verifiers.reward_model import open_reward, reward_source

            rewards["reward"] = opened = open_reward(reward_source(reward))
            stack.callback(opened.close)
        yield Resources(reader, rewards, _commands(programs or []), execute_code, unconfined_code, records)


def _commands(programs: list[str]) -> dict[str, Any]:
    from updraft.verifiers import Command

    commands = {}
    for program in programs:
        name, equals, rest = program.partition("=")
        words = _words(rest)
        if not equals or not name or not words:
            raise InvalidRequest(
                f"--program was given {program!r}; it must be NAME=COMMAND.",
                remedy="Write --program lint='/path/of/lint -q'.",
            )
        commands[name] = Command(tuple(words))
    return commands


def _words(command: str) -> list[str]:
    """None where a quote stays open."""
    try:
        return shlex.split(command)
    except ValueError:
        return []
