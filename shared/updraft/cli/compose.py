"""`updraft compose check|run|search|fit`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from updraft.cli.experts_simulation import bar_of
from updraft.cli.extras import needs_extra
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported, stderr
from updraft.cli.subject import Setup, check_out, opened
from updraft.cli.verifier_options import RewardOption

if TYPE_CHECKING:
    from updraft.composition.search import Found, Trial
    from updraft.strategies.choice import ComputeOptimal
    from updraft.strategies.problem import Outcome, Progress
    from updraft.strategies.subject import Attempt

__all__ = ["register"]

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A pipeline, TOML or JSON; see docs/composition.md.")
]
TasksArgument = Annotated[Path, typer.Argument(metavar="TASKS", help="JSON lines of question and answer.")]
ModelOption = Annotated[str, typer.Option("--model", metavar="NAME|FILE", help="The model that all components ask.")]
VerifierOption = Annotated[
    str | None,
    typer.Option("--verifier", metavar="SPEC", help="Who judges answers: a name, such as self or reward, or JSON."),
]
StepOption = Annotated[
    str, typer.Option("--step", metavar="TEXT", help="Text that ends a step; a blank line when left out.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="The same seed gives the same answers.")]
TemperatureOption = Annotated[float, typer.Option(min=0, max=10, help="Temperature of all samples.")]
MaxTokensOption = Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of one answer, at most.")]
RunsCodeOption = Annotated[
    bool, typer.Option("--run-code", help="Let `run-tests` run programs that the model writes, in a sandbox.")
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Pipelines of generate, rank, critique, fuse, verify and tests.")
    group.command("check", epilog=examples("updraft compose check pipeline.toml"))(check)
    group.command(
        "run",
        epilog=examples(
            "updraft compose run pipeline.toml 'How many minutes are in a week?'",
            "updraft compose run pipeline.toml '3*4+5' --model lab-cloud --json",
        ),
    )(run)
    group.command(
        "search",
        epilog=examples(
            "updraft compose search tasks.jsonl --trials 30 --out found.toml",
            "updraft compose search tasks.jsonl --model lab-cloud --no-texts --price 0.02",
        ),
    )(search)
    group.command(
        "fit",
        epilog=examples(
            "updraft compose fit tasks.jsonl --out choice.json",
            "updraft compose fit tasks.jsonl --model lab-cloud --verifier reward --reward lab-reward --edge lab-edge",
        ),
    )(fit)
    app.add_typer(group, name="compose", epilog=examples("updraft compose check pipeline.toml"))


@reported
def check(file: FileArgument, as_json: JsonOption = False) -> None:
    """See whether a pipeline is valid, and in which order its components run."""
    from updraft.composition import load_pipeline

    pipeline = load_pipeline(file)
    if as_json:
        print_json({"name": pipeline.name, "order": [part.id for part in pipeline.order], "answer": pipeline.output})
        return
    for part in pipeline.order:
        source = f" <- {', '.join(part.inputs)}" if part.inputs else ""
        mark = "   (the answer)" if part.id == pipeline.output else ""
        typer.echo(f"{part.id}: {part.kind}{source}{mark}")
    typer.echo(f"valid; at most {pipeline.calls} calls of the model")


@reported
def run(
    file: FileArgument,
    question: Annotated[str, typer.Argument(help="What to answer.")],
    model: ModelOption = "smollm2-q4_0",
    verifier: VerifierOption = None,
    reward: RewardOption = None,
    step: StepOption = "\n\n",
    seed: SeedOption = 0,
    temperature: TemperatureOption = 0.8,
    max_tokens: MaxTokensOption = 256,
    run_code: RunsCodeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer a question by a pipeline, with a model on this machine."""
    from updraft.composition import load_pipeline
    from updraft.composition.strategy import Composed
    from updraft.strategies.problem import MOST_SAMPLES, Budget
    from updraft.strategies.subject import Question

    pipeline = load_pipeline(file)
    setup = Setup(model, verifier, reward, step, temperature, max_tokens, run_code)
    console = stderr()

    def note(progress: Progress) -> None:
        if progress.kind == "stage":
            console.print(f"[dim]{progress.text} ({progress.tokens} tokens so far)[/dim]")

    async def answer() -> Attempt:
        async with opened(setup) as subject:
            return await subject.attempt(
                Question(question, ""), Composed(pipeline=pipeline), Budget(samples=MOST_SAMPLES), seed=seed, note=note
            )

    outcome = asyncio.run(answer()).outcome
    if as_json:
        print_json(_facts(outcome))
        return
    typer.echo(outcome.sample.text.strip())
    verified = {True: "verified", False: "refuted", None: "unverified"}[outcome.verified]
    console.print(
        f"[dim]{verified}, confidence {outcome.confidence:.2f}, {outcome.spent.samples} samples, "
        f"{outcome.spent.tokens} tokens, {outcome.spent.seconds:.1f} s[/dim]"
    )
    for complaint in outcome.complaints:
        console.print(f"[yellow]{complaint}[/yellow]")


@reported
def search(
    tasks: TasksArgument,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where the best pipeline goes.")] = None,
    model: ModelOption = "smollm2-q4_0",
    verifier: VerifierOption = None,
    trials: Annotated[int, typer.Option(min=1, max=1000, help="Pipelines that are proposed.")] = 20,
    samples: Annotated[int, typer.Option(min=1, max=16, help="Of the first generator, at most.")] = 16,
    calls: Annotated[int, typer.Option(min=1, max=4096, help="Of the model for one question, at most.")] = 64,
    price: Annotated[float, typer.Option(min=0, help="What 1000 tokens cost, in accuracy.")] = 0.0,
    texts: Annotated[
        bool, typer.Option("--texts/--no-texts", help="Also try critique, fusion and the model as judge.")
    ] = True,
    reward: RewardOption = None,
    step: StepOption = "\n\n",
    seed: SeedOption = 0,
    temperature: TemperatureOption = 0.8,
    max_tokens: MaxTokensOption = 256,
    as_json: JsonOption = False,
) -> None:
    """Find the pipeline that suits a task file, by Bayesian optimisation. A single sample is the first trial."""
    with needs_extra("compose"):
        import optuna

        from updraft.composition.search import Space, written
        from updraft.composition.search import search as search_pipelines
    from updraft.strategies.subject import read_questions

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    setup = Setup(model, verifier, reward, step, temperature, max_tokens)
    questions = read_questions(tasks)
    check_out(out)
    space = Space(samples, calls, texts, verifier is not None)

    async def find() -> Found:
        with bar_of("trials", trials) as (bar, task):

            def done(trial: Trial) -> None:
                bar.update(task, advance=1)
                bar.console.print(f"{trial.accuracy:.3f} with {trial.tokens:.0f} tokens: {_shape(trial)}")

            async with opened(setup) as subject:
                return await search_pipelines(
                    subject, questions, space, trials=trials, price=price, seed=seed, done=done
                )

    found = asyncio.run(find())
    if out is not None:
        out.write_text(written(found.best.pipeline), "utf-8")
    if as_json:
        rows = [
            {"accuracy": trial.accuracy, "tokens": trial.tokens, "value": trial.value, "pipeline": _shape(trial)}
            for trial in found.trials
        ]
        print_json({"questions": len(questions), "trials": rows, "best": written(found.best.pipeline)})
        return
    typer.echo(f"# {found.best.right} of {found.best.questions} right with {found.best.tokens:.0f} tokens a question")
    typer.echo(written(found.best.pipeline), nl=False)


@reported
def fit(
    tasks: TasksArgument,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where the strategy goes, as JSON.")] = None,
    model: ModelOption = "smollm2-q4_0",
    verifier: VerifierOption = None,
    edge: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="The edge's model, if its answers are to come with every question."),
    ] = None,
    pilot: Annotated[int, typer.Option(min=1, max=16, help="Answers that the difficulty is estimated from.")] = 2,
    classes: Annotated[int, typer.Option(min=1, max=16, help="Of difficulty, at most.")] = 3,
    price: Annotated[float, typer.Option(min=0, help="What 1000 tokens cost, in accuracy.")] = 0.03,
    reward: RewardOption = None,
    step: StepOption = "\n\n",
    seed: SeedOption = 0,
    temperature: TemperatureOption = 0.8,
    max_tokens: MaxTokensOption = 256,
    as_json: JsonOption = False,
) -> None:
    """Fit the strategy `auto` to a task file: which questions deserve how much, told by a pilot of a few answers.

    All strategies that the model and the verifier allow are tried on all questions, so this takes a while.
    """
    from updraft.strategies.fit import candidates_for, fit_choice
    from updraft.strategies.subject import read_questions

    setup = Setup(model, verifier, reward, step, temperature, max_tokens)
    questions = read_questions(tasks)
    check_out(out)

    async def work() -> ComputeOptimal:
        with bar_of("questions", len(questions)) as (bar, task):
            async with contextlib.AsyncExitStack() as stack:
                subject = await stack.enter_async_context(opened(setup))
                alone = replace(setup, model=edge or "", verifier=None, reward=None)
                return await fit_choice(
                    subject,
                    questions,
                    candidates_for(subject, price),
                    edge=None if edge is None else await stack.enter_async_context(opened(alone)),
                    pilot=pilot,
                    price=price,
                    classes=classes,
                    seed=seed,
                    done=lambda: bar.update(task, advance=1),
                )

    strategy = asyncio.run(work())
    data = {"name": strategy.name, **strategy.model_dump(mode="json")}
    if out is not None:
        out.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    if as_json:
        print_json(data)
        return
    for plan in strategy.plans:
        what = "the pilot's answer" if plan.strategy is None else f"{plan.strategy}, {plan.samples} samples"
        typer.echo(f"difficulty up to {plan.difficulty:.2f}: {what}")


def _shape(trial: Trial) -> str:
    """A pipeline in a line."""
    parts = []
    for part in trial.pipeline.order:
        settings = part.model_dump(exclude={"id", "kind", "inputs"}, exclude_defaults=True)
        inside = ", ".join(f"{key} {value}" for key, value in settings.items())
        parts.append(f"{part.kind}({inside})" if inside else part.kind)
    return " > ".join(parts)


def _facts(outcome: Outcome) -> dict[str, Any]:
    spent = outcome.spent
    return {
        "text": outcome.sample.text,
        "answer": outcome.sample.answer,
        "confidence": outcome.confidence,
        "verified": outcome.verified,
        "ended": outcome.ended,
        "unparsed": outcome.unparsed,
        "complaints": list(outcome.complaints),
        "spent": {"samples": spent.samples, "tokens": spent.tokens, "prefilled": spent.prefilled},
        "alternatives": [
            {"answer": one.sample.answer, "weight": one.weight, "samples": one.samples, "score": one.score}
            for one in outcome.alternatives
        ],
    }
