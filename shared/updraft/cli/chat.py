"""`updraft chat`: a conversation in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from updraft.cli.effort import (
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
    LocalOnlyOption,
    ModelOption,
    ModeOption,
    SetOption,
    overrides,
)
from updraft.cli.reporting import examples, reported, stderr
from updraft.cli.run import AgentOption, ColourOption, InProcessOption, mode_settings
from updraft.errors import UpdraftError

if TYPE_CHECKING:
    from updraft.cli.answers import Answerer
    from updraft.generation import ChatMessage
    from updraft.sampling import SamplingParams

__all__ = ["Conversation", "register"]

HELP = "/mode NAME changes the mode · /reset forgets the conversation · /quit or Ctrl-D ends it"


def register(app: typer.Typer) -> None:
    app.command("chat", epilog=examples("updraft chat", "updraft chat --mode edge --temperature 0.7"))(chat)


@reported
def chat(
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="System message at the start.")] = None,
    mode: ModeOption = None,
    effort: EffortOption = None,
    strategy: StrategyOption = None,
    verifier: VerifierOption = None,
    budget_samples: BudgetSamplesOption = None,
    budget_tokens: BudgetTokensOption = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", help="Longest answer, tokens.")] = None,
    temperature: Annotated[float, typer.Option(metavar="T", help="0 takes the most probable token.")] = 0.0,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Makes answers repeatable.")] = None,
    local_only: LocalOnlyOption = None,
    cloud: CloudOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    agent: AgentOption = None,
    in_process: InProcessOption = False,
    color: ColourOption = None,
    config: ConfigOption = None,
    setting: SetOption = None,
) -> None:
    """Talk with the model; the conversation so far is sent with every message.

    In the conversation: /mode NAME changes the mode, /reset forgets what was said, /quit ends it. Ctrl-C stops an
    answer.
    """
    from updraft.cli.answers import open_answerer
    from updraft.cli.printing import colour_wanted
    from updraft.logging_setup import configure_logging
    from updraft.sampling import SamplingParams

    configure_logging("error", "text")
    solving = effort_settings(effort, strategy, verifier, budget_samples, budget_tokens)
    settings = mode_settings(mode, local_only, solving)
    sampling = SamplingParams(temperature=temperature, seed=seed)
    own = overrides(setting, model=model, device=device, cloud__address=cloud)
    with open_answerer(agent=agent, config=config, overrides=own, in_process=in_process) as answerer:
        console = stderr()
        console.print(f"answered by {answerer.place}", style="dim", markup=False, soft_wrap=True)
        console.print(HELP, style="dim", soft_wrap=True)
        conversation = Conversation(answerer, settings, sampling, max_tokens, system, colour=colour_wanted(color))
        while (line := _read_line()) is not None and conversation.take(line):
            pass


class Conversation:
    """The messages so far, and what a line typed by the person does to them."""

    def __init__(
        self,
        answerer: Answerer,
        settings: dict[str, object],
        sampling: SamplingParams,
        max_tokens: int | None,
        system: str | None,
        *,
        colour: bool,
    ) -> None:
        self._answerer = answerer
        self._settings = settings
        self._sampling = sampling
        self._max_tokens = max_tokens
        self._system = system
        self._colour = colour
        self.messages: list[ChatMessage] = []
        self._reset()

    def take(self, line: str) -> bool:
        """Act on a line: a command or a message. False when the conversation is over."""
        command, _, argument = line.strip().partition(" ")
        match command:
            case "":
                pass
            case "/quit" | "/exit":
                return False
            case "/reset":
                self._reset()
            case "/mode":
                self._change_mode(argument.strip())
            case _ if command.startswith("/"):
                stderr().print(HELP)
            case _:
                self._answer(line)
        return True

    def _reset(self) -> None:
        from updraft.generation import ChatMessage

        self.messages = [ChatMessage("system", self._system)] if self._system else []

    def _change_mode(self, name: str) -> None:
        from updraft.modes import parse_settings

        try:
            changed = parse_settings({"mode": name}).mode.value
        except UpdraftError as error:
            _complain(error)
            return
        others = () if changed == "solve" else ("effort", "strategy")  # which go with that mode alone
        self._settings = {key: value for key, value in self._settings.items() if key not in others} | {"mode": changed}

    def _answer(self, line: str) -> None:
        """Print an answer; the conversation grows only by answers that were completed."""
        from updraft.cli.answers import Question
        from updraft.cli.printing import show_answer, summary
        from updraft.generation import ChatMessage

        messages = [*self.messages, ChatMessage("user", line)]
        question = Question(
            messages=messages,
            sampling=self._sampling,
            max_tokens=self._max_tokens,
            settings=self._settings,
            progress=True,
        )
        try:
            completion = show_answer(self._answerer.ask(question), colour=self._colour)
        except KeyboardInterrupt:
            stderr().print("\nstopped", style="yellow")
        except UpdraftError as error:
            _complain(error)
        else:
            summary(completion, colour=self._colour)
            self.messages = [*messages, ChatMessage("assistant", completion.text)]


def _complain(error: UpdraftError) -> None:
    console = stderr()
    console.print(error.message, style="red", markup=False, soft_wrap=True)
    console.print(error.remedy, markup=False, soft_wrap=True)


def _read_line() -> str | None:
    """What the person types next; None at the end of input or after Ctrl-C."""
    try:
        import readline  # noqa: F401  (line editing and history, where the system has it)
    except ImportError:
        pass
    try:
        return input("> ")
    except (EOFError, KeyboardInterrupt):
        stderr().print()
        return None
