from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.fakes.generator import FakeAgent
from tests.shared.client.serving import BackgroundServer
from updraft.cli import app

Updraft = Callable[..., Result]

_command = functools.cache(typer.main.get_command)


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings of the person who runs the tests; a wide terminal, so that nothing wraps; the log as it was."""
    # The runner would build every verb for each call, which takes longer than most of what is called.
    monkeypatch.setattr("typer.testing._get_command", _command)
    for name in [name for name in os.environ if name.startswith("UPDRAFT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def updraft() -> Updraft:
    """Runs the command line with these arguments; `text` is standard input."""

    def invoke(*arguments: str, text: str | None = None) -> Result:
        return CliRunner().invoke(app, [*arguments], input=text, prog_name="updraft")

    return invoke


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts agents in another thread and gives their addresses; they stop with the test."""
    servers: list[BackgroundServer] = []

    def start(agent: FakeAgent, *, token: str | None = None) -> str:
        servers.append(BackgroundServer(agent, token=token))
        return servers[-1].address

    yield start
    for server in servers:
        server.stop()
