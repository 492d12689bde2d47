from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.generator import FakeAgent
from tests.shared.cli.conftest import Updraft
from updraft.errors import Overloaded

Serve = Callable[..., str]
GREEN, CYAN, RESET = "\x1b[32m", "\x1b[36m", "\x1b[0m"


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_named_agent_answers_and_is_named(updraft: Updraft, serve: Serve) -> None:
    agent = FakeAgent(["Blue", " light", "."])
    address = serve(agent)
    result = updraft("run", "--agent", address, "Why?")
    assert (result.exit_code, result.stdout) == (0, "Blue light.\n")
    first, last = result.stderr.splitlines()
    assert first == f"answered by the agent at {address}"
    assert "3 tokens" in last and "cloud share 33%" in last and "0.00 cloud passes/token" in last
    (request,) = agent.requests
    assert request.messages is not None
    assert [(message.role, message.content) for message in request.messages] == [("user", "Why?")]


def test_the_usual_address_is_tried_and_its_token_sent(
    updraft: Updraft, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = serve(FakeAgent(["Hi"]), token="secret")
    monkeypatch.setenv("UPDRAFT_EDGE__GRPC__PORT", address.rpartition(":")[2])
    monkeypatch.setenv("UPDRAFT_EDGE__GRPC__TOKEN", "secret")
    result = updraft("run", "Hello")
    assert result.stdout == "Hi\n" and f"the agent at {address}" in result.stderr
    monkeypatch.setenv("UPDRAFT_EDGE__GRPC__TOKEN", "wrong")
    refused = updraft("run", "Hello", "--json")
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["error"]["code"] == "unauthenticated"


def test_the_variable_names_an_agent(updraft: Updraft, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPDRAFT_AGENT", serve(FakeAgent(["Hi"])))
    assert updraft("run", "Hello").stdout == "Hi\n"


def test_every_option_reaches_the_agent(updraft: Updraft, serve: Serve) -> None:
    agent = FakeAgent()
    drawing = ["--temperature", "0.5", "--top-k", "4", "--top-p", "0.9", "--seed", "3"]
    options = ["--mode", "span", "--max-tokens", "9", "--local-only", *drawing]
    stops = ["--stop", "\n\n", "--stop", "END"]
    result = updraft("run", "--agent", serve(agent), *options, *stops, "--system", "Be brief.", "Why?")
    assert result.exit_code == 0
    (request,) = agent.requests
    assert request.messages is not None and request.messages[0].content == "Be brief."
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.seed) == (0.5, 4, 0.9, 3)
    assert (request.max_tokens, tuple(request.stop)) == (9, ("\n\n", "END"))
    assert request.settings is not None
    assert (request.settings.mode, request.settings.local_only) == ("span", True)


def test_without_a_mode_the_agent_uses_its_own(updraft: Updraft, serve: Serve) -> None:
    agent = FakeAgent()
    updraft("run", "--agent", serve(agent), "Why?")
    assert agent.requests[0].settings is None


def test_raw_text_is_continued_as_it_is(updraft: Updraft, serve: Serve) -> None:
    agent = FakeAgent()
    updraft("run", "--agent", serve(agent), "--raw", "Once upon a")
    assert (agent.requests[0].prompt, agent.requests[0].messages) == ("Once upon a", None)


@pytest.mark.parametrize("arguments", [[], ["-"]], ids=["left out", "dash"])
def test_a_piped_prompt_is_read(arguments: list[str], updraft: Updraft, serve: Serve) -> None:
    agent = FakeAgent()
    assert updraft("run", "--agent", serve(agent), *arguments, text="From a pipe.\n").exit_code == 0
    assert agent.requests[0].messages is not None
    assert agent.requests[0].messages[0].content == "From a pipe.\n"


def test_json_is_the_whole_completion(updraft: Updraft, serve: Serve) -> None:
    result = updraft("run", "--agent", serve(FakeAgent(["a", "b"], degraded_reason="late_reply")), "x", "--json")
    record = json.loads(result.stdout)
    assert (record["text"], record["finish_reason"], record["degraded_reason"]) == ("ab", "stop", "late_reply")
    assert record["statistics"]["cloud_share"] == 0.5
    assert record["statistics"]["tokens_per_second"] > 0


def test_tokens_are_coloured_by_origin_on_request(updraft: Updraft, serve: Serve) -> None:
    address = serve(FakeAgent(["one", " two"]))
    coloured = updraft("run", "--agent", address, "--color", "x")
    assert coloured.stdout == f"{GREEN}one{RESET}{CYAN} two{RESET}\n"
    assert updraft("run", "--agent", address, "--no-color", "x").stdout == "one two\n"
    assert updraft("run", "--agent", address, "x").stdout == "one two\n"  # no terminal


def test_a_degraded_answer_says_so(updraft: Updraft, serve: Serve) -> None:
    result = updraft("run", "--agent", serve(FakeAgent(degraded_reason="cloud_unavailable")), "x")
    assert result.exit_code == 0
    assert "degraded: the edge finished alone (cloud_unavailable)" in result.stderr


def test_a_failure_in_mid_answer_is_an_error(updraft: Updraft, serve: Serve) -> None:
    agent = FakeAgent(["a", "b"], failure=Overloaded("full"), fail_after=1)
    result = updraft("run", "--agent", serve(agent), "x")
    assert (result.exit_code, result.stdout) == (1, "a")
    assert "error: full" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--mode", "warp", "x"], "unknown_name", "no mode 'warp'"),
        ([" "], "invalid_request", "prompt is empty"),
        (["-"], "invalid_request", "prompt is empty"),
        (["--temperature", "-1", "x"], "invalid_request", "temperature is -1"),
        (["--temperature", "nan", "x"], "invalid_request", "temperature is nan"),
        (["--seed", "-1", "x"], "invalid_request", "seed is -1"),
        (["--set", "oops", "--local-only", "x"], "bad_configuration", "must be KEY=VALUE"),
        (["--set", "modle=1", "x"], "bad_configuration", "nearest known one is edge.model"),
        (["--set", "http=1", "--set", "http.port=1", "x"], "bad_configuration", "uses it as a table"),
        (["--agent", "127.0.0.1:1", "--model", "m", "x"], "invalid_request", "has its own settings"),
        (["--in-process", "--model", "gpt-17", "x"], "unknown_name", "unknown model 'gpt-17'"),
    ],
)
def test_bad_input_is_refused_with_code_2(arguments: list[str], code: str, says: str, updraft: Updraft) -> None:
    result = updraft("run", "--json", *arguments, text="")
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert error["code"] == code and says in error["message"]


def test_a_named_agent_that_is_away_is_an_error(updraft: Updraft, free_port: int) -> None:
    result = updraft("run", "--agent", f"127.0.0.1:{free_port}", "x", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "agent_unavailable"


def test_an_agent_in_this_process_answers_where_none_runs(
    updraft: Updraft, tiny_model_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPDRAFT_EDGE__MODEL", str(tiny_model_path))
    monkeypatch.setenv("UPDRAFT_EDGE__GRPC__PORT", str(free_port))
    monkeypatch.setenv("UPDRAFT_EDGE__CONTEXT", "256")
    arguments = ["run", "--local-only", "--max-tokens", "5", "--seed", "1", "--temperature", "1", "the"]
    first, second = updraft(*arguments), updraft(*arguments, "--json")
    assert first.exit_code == second.exit_code == 0
    assert f"answered by an agent in this process ({tiny_model_path})" in first.stderr
    record = json.loads(second.stdout)
    assert first.stdout.removesuffix("\n") == record["text"]
    assert (record["mode"], record["statistics"]["cloud_tokens"]) == ("edge", 0)


def test_a_missing_cloud_degrades_the_answer(updraft: Updraft, tiny_model_path: Path, free_port: int) -> None:
    own = ["--model", str(tiny_model_path), "--cloud", f"127.0.0.1:{free_port}", "--set", "context=256"]
    quick = ["--set", "cloud.reconnect_attempts=1", "--set", "cloud.connect_timeout_s=0.5"]
    result = updraft("run", *own, *quick, "--max-tokens", "4", "the", "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert (record["degraded"], record["statistics"]["tokens"]) == (True, 4)
