"""`updraft run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from updraft.cli.effort import (
    AlternativesOption,
    BudgetSamplesOption,
    BudgetTokensOption,
    EffortOption,
    StrategyOption,
    VerifierOption,
    effort_settings,
)
from updraft.cli.options import (
    CloudOption,
    ConfigOption,
    DeviceOption,
    JsonOption,
    LocalOnlyOption,
    ModelOption,
    ModeOption,
    SetOption,
    overrides,
)
from updraft.cli.reporting import examples, print_json, reported, stderr
from updraft.errors import InvalidRequest

__all__ = ["AgentOption", "ColourOption", "InProcessOption", "mode_settings", "register"]

AgentOption = Annotated[
    str | None, typer.Option("--agent", metavar="HOST:PORT", help="Ask the running agent at this address.")
]
InProcessOption = Annotated[bool, typer.Option("--in-process", help="Do not look for a running agent.")]
ColourOption = Annotated[
    bool | None, typer.Option("--color/--no-color", help="Colour tokens by the tier that wrote them.")
]


def register(app: typer.Typer) -> None:
    app.command(
        "run",
        epilog=examples(
            "updraft run 'Why is the sky blue?'",
            "echo 'Name three rivers.' | updraft run --mode span --json",
            "updraft run --effort high 'What is 17 * 23?'",
            "updraft run --raw --temperature 0.8 --seed 7 'Once upon a time'",
        ),
    )(run)


@reported
def run(
    prompt: Annotated[
        str | None,
        typer.Argument(help="What to ask; read from standard input when left out or `-`.", show_default=False),
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="System message before the prompt.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text as it is, without the chat template.")] = False,
    mode: ModeOption = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", help="Longest answer, tokens.")] = None,
    temperature: Annotated[float, typer.Option(metavar="T", help="0 takes the most probable token.")] = 0.0,
    top_k: Annotated[int, typer.Option(metavar="K", help="Draw from the K most probable tokens; 0 for all.")] = 0,
    top_p: Annotated[float, typer.Option(metavar="P", help="Draw from the tokens that hold this probability.")] = 1.0,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Makes an answer repeatable; drawn when left out.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Text that ends the answer; may be repeated.")
    ] = None,
    effort: EffortOption = None,
    strategy: StrategyOption = None,
    verifier: VerifierOption = None,
    budget_samples: BudgetSamplesOption = None,
    budget_tokens: BudgetTokensOption = None,
    alternatives: AlternativesOption = False,
    local_only: LocalOnlyOption = None,
    cloud: CloudOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    agent: AgentOption = None,
    in_process: InProcessOption = False,
    color: ColourOption = None,
    config: ConfigOption = None,
    setting: SetOption = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Add what was decided on every token, and the texts; see `updraft trace`."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one answer, token by token.

    A running agent answers if there is one; --model, --device, --cloud, --set and --in-process start one in this
    process instead. Standard error says which it was.
    """
    text = _prompt(prompt)
    from updraft.cli.answers import Question, open_answerer
    from updraft.cli.printing import colour_wanted, completion_record, last_of, show_answer, summary
    from updraft.generation import ChatMessage
    from updraft.logging_setup import configure_logging
    from updraft.sampling import SamplingParams

    configure_logging("error", "text")
    solving = effort_settings(effort, strategy, verifier, budget_samples, budget_tokens)
    messages = [ChatMessage("system", system)] if system else []
    question = Question(
        messages=None if raw else [*messages, ChatMessage("user", text)],
        prompt=text if raw else None,
        sampling=SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed),
        max_tokens=max_tokens,
        stop=tuple(stop or ()),
        settings=mode_settings(mode, local_only, solving),
        trace=trace is not None,
        progress=not as_json,
        alternatives=alternatives,
    )
    own = overrides(setting, model=model, device=device, cloud__address=cloud)
    with open_answerer(agent=agent, config=config, overrides=own, in_process=in_process) as answerer:
        stderr().print(f"answered by {answerer.place}", style="dim", markup=False, soft_wrap=True)
        events = answerer.ask(question)
        if trace is not None:
            from updraft.cli.tracing import traced

            events = traced(events, trace, "\n\n".join(filter(None, [system, text])))
        if as_json:
            print_json(completion_record(last_of(events)))
            return
        colour = colour_wanted(color)
        summary(show_answer(events, colour=colour), colour=colour)


def mode_settings(mode: str | None, local_only: bool | None, more: dict[str, object]) -> dict[str, object]:
    """The keys of the mode settings that flags name, `more` among them.

    Raises UnknownName for a mode, an effort or a strategy that does not exist, InvalidRequest for values out of range.
    """
    from updraft.modes import parse_settings

    given: dict[str, object] = {"mode": mode, "local_only": local_only, **more}
    named = {key: value for key, value in given.items() if value is not None}
    parse_settings(named)
    return named


def _prompt(given: str | None) -> str:
    """The argument, or standard input when it is piped."""
    if given is not None and given != "-":
        text = given
    elif given == "-" or not sys.stdin.isatty():
        text = sys.stdin.read()
    else:
        raise InvalidRequest("There is no prompt.", remedy="Write: updraft run 'Why is the sky blue?'", param="prompt")
    if not text.strip():
        raise InvalidRequest("The prompt is empty.", remedy="Give some text to answer.", param="prompt")
    return text
