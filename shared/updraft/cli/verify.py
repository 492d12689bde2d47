"""`updraft verify measure|answer`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from updraft.cli.extras import needs_extra
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported
from updraft.errors import ConfigError, InvalidRequest

if TYPE_CHECKING:
    from updraft.verifiers import Resources
    from updraft.verifiers.rates import Rates
    from updraft.verifiers.reward_model import RewardSource

__all__ = ["register"]

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


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Judge answers, and measure how often a verifier errs.")
    group.command(
        "measure",
        epilog=examples(
            "updraft verify measure --verifier self --model smollm2 --data labelled.jsonl",
            "updraft verify measure --verifier reward --reward prm.gguf --data labelled.jsonl --wanted 0.05",
        ),
    )(measure)
    group.command(
        "answer",
        epilog=examples(
            """updraft verify answer --verifier '{"kind": "number", "value": 42}' 'What is 6 * 7?' 'It is 42.'""",
            "updraft verify answer --verifier generative --model smollm2 'Is water wet?' - < answer.txt",
        ),
    )(answer)
    app.add_typer(group, name="verify", epilog=examples("updraft verify measure --verifier self --data labelled.jsonl"))


@reported
def measure(
    verifier: VerifierOption,
    data: Annotated[Path, typer.Option(metavar="FILE", help="JSON lines of question, answer and right.")],
    wanted: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="RATE", help="Choose the threshold: at most so many wrong answers pass."),
    ] = None,
    model: ModelOption = None,
    reward: RewardOption = None,
    program: ProgramOption = None,
    execute_code: ExecuteCodeOption = False,
    unconfined_code: UnconfinedCodeOption = False,
    records: RecordsOption = None,
    context: ContextOption = 2048,
    as_json: JsonOption = False,
) -> None:
    """How many wrong answers a verifier lets pass, and how many right ones, on answers of which that is known.

    The rates are kept for this verifier, its settings and its model, and count wherever it is used: a verifier that
    lets wrong answers pass puts a ceiling on what more samples can reach.

    With --wanted the threshold is the lowest that keeps to the rate with 95 % confidence.
    """
    from updraft.verifiers.rates import measure_rates, rates_folder, read_labelled, save_rates
    from updraft.verifiers.registry import parse_verifier

    settings, labelled = parse_verifier(_spec(verifier)), read_labelled(data)
    with _resources(model, reward, program, execute_code, unconfined_code, None, context) as resources:
        found = asyncio.run(measure_rates(settings.open(resources), labelled, resources, wanted=wanted))
    path = save_rates(records or rates_folder(), found)
    if as_json:
        print_json({**_record(found), "records": str(path)})
        return
    _show(found)
    typer.echo(f"kept in {path}")


@reported
def answer(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What was asked.")],
    text: Annotated[str, typer.Argument(metavar="ANSWER", help="The answer; - reads it from standard input.")],
    verifier: VerifierOption,
    model: ModelOption = None,
    reward: RewardOption = None,
    program: ProgramOption = None,
    execute_code: ExecuteCodeOption = False,
    unconfined_code: UnconfinedCodeOption = False,
    records: RecordsOption = None,
    context: ContextOption = 2048,
    as_json: JsonOption = False,
) -> None:
    """What a verifier thinks of one answer: its score, whether that is enough, and why not."""
    from updraft.verifiers import Claim, parse_verifier
    from updraft.verifiers.rates import rates_folder

    settings = parse_verifier(_spec(verifier))
    claim = Claim(question, (), (), sys.stdin.read() if text == "-" else text)
    folder = records or rates_folder()
    with _resources(model, reward, program, execute_code, unconfined_code, folder, context) as resources:
        opened = settings.open(resources)
        [judgement] = asyncio.run(opened.judge([claim]))
    record: dict[str, Any] = {
        "score": judgement.score,
        "passed": judgement.passed,
        "reason": judgement.reason,
        "failed": judgement.failed,
        "threshold": opened.threshold,
        "false_positive_rate": opened.false_positive_rate,
    }
    if as_json:
        print_json(record)
        return
    score = "no score" if judgement.score is None else f"score {judgement.score:.3f}"
    verdict = "passed" if judgement.passed else "not passed" if judgement.score is not None else "not judged"
    typer.echo(f"{verdict}, {score}" + (f": {judgement.reason}" if judgement.reason else ""))
    rate = opened.false_positive_rate
    told = "not measured; see `updraft verify measure`" if rate is None else f"{rate:.1%}"
    typer.echo(f"false-positive rate at threshold {opened.threshold:g}: {told}")


def _spec(text: str) -> Any:
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
def _resources(
    model: str | None,
    reward: str | None,
    programs: list[str] | None,
    execute_code: bool,
    unconfined_code: bool,
    records: Path | None,
    context: int,
) -> Iterator[Resources]:
    """What the options name, opened, and freed at the end."""
    from updraft.sampling import SamplingParams
    from updraft.verifiers import Resources

    with contextlib.ExitStack() as stack, needs_extra("edge"):
        reader, rewards = None, {}
        if model is not None:
            from updraft.engine import open_engine
            from updraft.engine.loop import EngineLoop
            from updraft.strategies import EnginePlaces, Forks

            loop = EngineLoop(open_engine(model, context=context))
            stack.callback(loop.stop)
            loop.start()
            reader = Forks(loop, EnginePlaces(loop.engine), SamplingParams(seed=0))
        if reward is not None:
            from updraft.verifiers.reward_model import open_reward

            rewards["reward"] = opened = open_reward(_reward_source(reward))
            stack.callback(opened.close)
        yield Resources(reader, rewards, _commands(programs or []), execute_code, unconfined_code, records)


def _reward_source(text: str) -> RewardSource:
    from pydantic import ValidationError

    from updraft.verifiers.reward_model import RewardSource

    try:
        if text.lstrip().startswith("{"):
            return RewardSource.model_validate(_json(text, "--reward"))
        if text.endswith(".json"):
            return RewardSource.model_validate_json(Path(text).read_bytes())
        return RewardSource(model=text)
    except OSError as error:
        raise ConfigError(f"{text} cannot be read: {error.strerror}.", remedy="Correct the path.") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(["reward", *map(str, first["loc"])])
        raise InvalidRequest(f"{where}: {first['msg']}.", param=where) from error


def _commands(programs: list[str]) -> dict[str, Any]:
    from updraft.verifiers import Command

    commands = {}
    for program in programs:
        name, equals, words = program.partition("=")
        if not equals or not name or not shlex.split(words):
            raise InvalidRequest(
                f"--program was given {program!r}; it must be NAME=COMMAND.", remedy="Write --program lint='./lint -q'."
            )
        commands[name] = Command(tuple(shlex.split(words)))
    return commands


def _record(rates: Rates) -> dict[str, Any]:
    from updraft.verifiers.rates import LEVEL, clopper_pearson

    return {
        **rates.model_dump(),
        "false_positive_rate": rates.false_positive_rate,
        "false_positive_interval": clopper_pearson(rates.passed_wrong, rates.wrong) if rates.wrong else None,
        "true_positive_rate": rates.true_positive_rate,
        "true_positive_interval": clopper_pearson(rates.passed_right, rates.right) if rates.right else None,
        "level": LEVEL,
    }


def _show(rates: Rates) -> None:
    from updraft.verifiers.rates import clopper_pearson

    typer.echo(f"verifier {rates.kind}, threshold {rates.threshold:.4g}")
    for name, passed, count in (
        ("wrong answers that pass", rates.passed_wrong, rates.wrong),
        ("right answers that pass", rates.passed_right, rates.right),
    ):
        if count:
            low, high = clopper_pearson(passed, count)
            typer.echo(f"{name}: {passed} of {count}, {passed / count:.1%} [{low:.1%}, {high:.1%}]")
        else:
            typer.echo(f"{name}: there is none in the data")
    if rates.area is not None:
        typer.echo(f"area under the curve: {rates.area:.3f}")
    if rates.unjudged:
        typer.echo(f"answers without a score: {rates.unjudged}")
    if (ceiling := rates.ceiling(0.5)) is not None:
        typer.echo(f"most that resampling can reach from 50 % right samples: {ceiling:.1%}")
