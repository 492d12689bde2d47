"""Effort on the command line: flags become settings, progress is a line, and the answer says how it came about."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.fakes.generator import FakeAgent
from tests.fakes.solutions import PROGRESS, SOLUTION
from tests.shared.cli.conftest import Updraft
from updraft.cli.effort import ProgressLine, effort_settings
from updraft.errors import InvalidRequest
from updraft.modes import Mode

Serve = Callable[..., str]

FLAGS = ["--effort", "high", "--strategy", "rpc", "--verifier", '{"kind": "number", "value": 391}']
BUDGET = ["--budget-samples", "5", "--budget-tokens", "900"]


@pytest.mark.parametrize("verb", ["run", "chat"])
def test_flags_reach_the_agent(updraft: Updraft, serve: Serve, verb: str) -> None:
    agent = FakeAgent(solution=SOLUTION)
    asked = ["Why?"] if verb == "run" else []
    result = updraft(verb, "--agent", serve(agent), *FLAGS, *BUDGET, *asked, text="Why?\n")
    assert result.exit_code == 0, result.stderr
    (request,) = agent.requests
    settings = request.settings
    assert settings is not None and settings.mode is Mode.SOLVE and settings.effort == "high"
    assert settings.strategy == "rpc" and settings.verifier == {"kind": "number", "value": 391}
    assert (settings.budget.samples, settings.budget.tokens) == (5, 900)
    assert "rpc · confidence 75% · verified · 7 samples, 27 edge and 60 cloud tokens" in result.stderr
    assert "unverified: number failed" in result.stderr and "1 samples gave no final answer" in result.stderr


def test_alternatives_are_listed(updraft: Updraft, serve: Serve) -> None:
    agent = FakeAgent(solution=SOLUTION, progress=PROGRESS)
    result = updraft("run", "--agent", serve(agent), "--effort", "low", "--alternatives", "Why?")
    assert result.stdout == "Hello, world!\n" and agent.requests[0].alternatives
    assert "75% (5 samples, score 0.50): Hello, world!" in result.stderr and "25% (1 samples): Bye" in result.stderr


def test_json_holds_the_solution(updraft: Updraft, serve: Serve) -> None:
    result = updraft("run", "--agent", serve(FakeAgent(solution=SOLUTION)), "--effort", "low", "--json", "Why?")
    assert json.loads(result.stdout)["solution"]["confidence"] == 0.75


@pytest.mark.parametrize(
    "flags",
    [
        ["--effort", "huge"],
        ["--strategy", "guess"],
        ["--strategy", "{"],
        ["--effort", "low", "--budget-samples", "0"],
        ["--effort", "low", "--mode", "draft"],
        ["--effort", "low", "--verifier", "guess"],
    ],
)
def test_wrong_flags_are_refused_before_anybody_is_asked(updraft: Updraft, serve: Serve, flags: list[str]) -> None:
    agent = FakeAgent()
    result = updraft("run", "--agent", serve(agent), *flags, "Why?")
    assert result.exit_code != 0 and agent.requests == []


def test_a_change_of_mode_in_a_conversation_leaves_effort_behind(updraft: Updraft, serve: Serve) -> None:
    agent = FakeAgent()
    result = updraft("chat", "--agent", serve(agent), "--effort", "low", text="one\n/mode draft\ntwo\n")
    assert result.exit_code == 0, result.stderr
    assert [request.settings.mode for request in agent.requests if request.settings] == [Mode.SOLVE, Mode.DRAFT]


def test_the_line_counts_what_happened() -> None:
    line = ProgressLine()
    for event in PROGRESS:
        line.take(event)
    assert line.text == "1 samples · 1 scores · 1 copied · 69 tokens · leading at 75%"
    line.close()
    line.close()


def test_settings_of_no_flags_are_none() -> None:
    assert effort_settings(None, None, None, None, None) == {}
    with pytest.raises(InvalidRequest, match="--strategy"):
        effort_settings(None, "{x", None, None, None)
