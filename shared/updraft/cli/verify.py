"""`updraft verify measure|answer`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported
from updraft.cli.verifier_options import (
    ContextOption,
    ExecuteCodeOption,
    ModelOption,
    ProgramOption,
    RecordsOption,
    RewardOption,
    UnconfinedCodeOption,
    VerifierOption,
    resources_of,
    spec_of,
)

if TYPE_CHECKING:
    from updraft.verifiers.rates import Rates

__all__ = ["register"]


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
    data: Annotated[Path, typer.Option(metavar="FILE", help="JSON lines of question, answer, right and settings.")],
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

    Lines may have settings of their own, such as the number that a question asks for or its tests; the rates are then
    of the verifier with any such settings.

    With --wanted the threshold is the lowest that keeps to the rate with 95 % confidence.
    """
    from updraft.verifiers.rates import measure_rates, rates_folder, read_labelled, save_rates
    from updraft.verifiers.registry import parse_verifier

    labelled = read_labelled(data)
    settings = parse_verifier(_completed(spec_of(verifier), labelled[0].settings))
    with resources_of(model, reward, program, execute_code, unconfined_code, None, context) as resources:
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

    settings = parse_verifier(spec_of(verifier))
    claim = Claim(question, (), (), sys.stdin.read() if text == "-" else text)
    folder = records or rates_folder()
    with resources_of(model, reward, program, execute_code, unconfined_code, folder, context) as resources:
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


def _completed(spec: Any, settings: Mapping[str, Any]) -> Any:
    """With the first question's settings, where questions have their own."""
    return {**({"kind": spec} if isinstance(spec, str) else spec), **settings} if settings else spec


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
