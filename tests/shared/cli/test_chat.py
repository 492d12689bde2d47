from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.fakes.generator import FakeAgent
from tests.shared.cli.conftest import Updraft
from updraft.cli.answers import Question
from updraft.cli.chat import Conversation
from updraft.errors import Overloaded
from updraft.generation import Completion, GenerationRequest, TokenEvent
from updraft.sampling import SamplingParams

Serve = Callable[..., str]


def said(request: GenerationRequest) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in request.messages or ()]


def test_the_conversation_so_far_is_sent(updraft: Updraft, serve: Serve) -> None:
    agent = FakeAgent(["Yes", "."])
    result = updraft("chat", "--agent", serve(agent), "--system", "Be brief.", text="One?\n\nTwo?\n/quit\nThree?\n")
    assert result.exit_code == 0
    assert result.stdout.count("Yes.\n") == 2
    first, second = agent.requests
    assert said(first) == [("system", "Be brief."), ("user", "One?")]
    assert said(second) == [*said(first), ("assistant", "Yes."), ("user", "Two?")]


def test_reset_forgets_all_but_the_system_message(updraft: Updraft, serve: Serve) -> None:
    agent = FakeAgent()
    updraft("chat", "--agent", serve(agent), "--system", "Be brief.", text="One?\n/reset\nTwo?\n")
    assert said(agent.requests[1]) == [("system", "Be brief."), ("user", "Two?")]


def test_mode_changes_for_what_follows(updraft: Updraft, serve: Serve) -> None:
    agent = FakeAgent()
    text = "One?\n/mode span\nTwo?\n/mode warp\nThree?\n"
    result = updraft("chat", "--agent", serve(agent), "--local-only", text=text)
    assert "There is no mode 'warp'" in result.stderr
    settings = [request.settings for request in agent.requests]
    assert [one and (one.mode.value, one.local_only) for one in settings] == [
        ("draft", True),
        ("span", True),
        ("span", True),
    ]


def test_an_unknown_command_is_explained_and_not_sent(updraft: Updraft, serve: Serve) -> None:
    agent = FakeAgent()
    result = updraft("chat", "--agent", serve(agent), text="/help\n")
    assert (result.exit_code, agent.requests) == (0, [])
    assert result.stderr.count("/mode NAME changes the mode") == 2


def test_an_error_leaves_the_conversation_as_it_was(updraft: Updraft, serve: Serve) -> None:
    agent = FakeAgent(["a", "b"], failure=Overloaded("full"), fail_after=1)
    result = updraft("chat", "--agent", serve(agent), text="One?\nTwo?\n")
    assert result.exit_code == 0 and result.stderr.count("full") == 2
    assert said(agent.requests[1]) == [("user", "Two?")]


class Interrupted:
    """Answers as if the person pressed Ctrl-C in the middle."""

    place = "nowhere"

    def __init__(self) -> None:
        self.questions: list[Question] = []

    def ask(self, question: Question) -> Iterator[TokenEvent | Completion]:
        self.questions.append(question)
        return iter(self._pressed, None)

    def _pressed(self) -> TokenEvent | Completion | None:
        raise KeyboardInterrupt


def test_an_interrupt_ends_the_answer_and_not_the_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    answerer = Interrupted()
    conversation = Conversation(answerer, {}, SamplingParams(), None, None, colour=False)
    assert conversation.take("One?") and conversation.take("Two?")
    assert "stopped" in capsys.readouterr().err
    assert [len(question.messages or ()) for question in answerer.questions] == [1, 1]
    assert conversation.messages == []
