from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from tests.house import ROOT
from tests.shared.cli.conftest import Updraft
from updraft import __version__
from updraft.cli import app
from updraft.cli.reporting import reported
from updraft.errors import ConfigError, EngineFailure, InvalidRequest, MissingExtra, Overloaded, UnknownName


def verbs(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from verbs(below, (*path, name))


VERBS = [*verbs(typer.main.get_command(app))]


def test_the_verbs_of_the_contract_are_there() -> None:
    named = {" ".join(path) for path in VERBS}
    assert named >= {
        "run",
        "chat",
        "serve edge",
        "serve cloud",
        "models list",
        "models show",
        "doctor",
        "config show",
        "config path",
        "config init",
    }


@pytest.mark.parametrize("path", VERBS, ids=lambda path: " ".join(path) or "updraft")
def test_every_verb_has_help_with_an_example(path: tuple[str, ...], updraft: Updraft) -> None:
    result = updraft(*path, "--help")
    assert result.exit_code == 0
    _, _, after = result.output.partition("Example")
    assert f"updraft {' '.join(path)}".strip() in after


def test_version(updraft: Updraft) -> None:
    assert updraft("--version").output == f"updraft {__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\nfrom updraft.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "updraft.cli.run" in loaded
    assert not loaded & {"llama_cpp", "grpc", "numpy", "pydantic", "updraft_edge", "updraft_cloud", "uvicorn"}


def test_the_page_of_help_is_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "help_docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def failing(error: Exception) -> typer.Typer:
    """An app whose only verb raises."""

    @reported
    def verb(as_json: bool = typer.Option(False, "--json")) -> None:
        raise error

    single = typer.Typer(pretty_exceptions_enable=False)
    single.command()(verb)
    return single


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("bad"), 2),
        (UnknownName("bad"), 2),
        (ConfigError("bad"), 2),
        (MissingExtra("bad"), 2),
        (Overloaded("bad"), 1),
        (EngineFailure("bad"), 1),
        (ValueError("bad"), 1),
    ],
)
def test_errors_are_a_line_a_remedy_and_a_code(error: Exception, code: int) -> None:
    result = CliRunner().invoke(failing(error), [])
    assert result.exit_code == code
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first.startswith("error: ") and first.endswith("bad")
    assert second == getattr(error, "remedy", "Run it again with `updraft --debug` and report the traceback.")


def test_an_error_is_json_too_when_json_was_asked_for() -> None:
    error = UnknownName("There is no mode 'x' [sic].", param="mode")
    result = CliRunner().invoke(failing(error), ["--json"])
    assert json.loads(result.stdout) == {
        "error": {"code": "unknown_name", "message": error.message, "remedy": error.remedy, "param": "mode"}
    }
    assert "There is no mode 'x' [sic]." in result.stderr


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
def test_tracebacks_are_for_debugging(value: str, shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPDRAFT_DEBUG", value)
    result = CliRunner().invoke(failing(EngineFailure("bad")), [])
    assert ("Traceback" in result.stderr) is shown


def test_the_flag_debug_shows_tracebacks(updraft: Updraft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPDRAFT_DEBUG", "0")
    assert "Traceback" in updraft("--debug", "models", "show", "nothing").stderr


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (typer.Exit(5), 5)])
def test_an_interrupt_and_an_exit_are_no_errors(error: Any, code: int) -> None:
    result = CliRunner().invoke(failing(error), [])
    assert (result.exit_code, result.stderr) == (code, "")


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    program = "from updraft.cli import app; app(['config', 'init', '--stdout'])"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_unknown_verbs_and_flags_exit_with_2(updraft: Updraft) -> None:
    assert updraft("fly").exit_code == 2
    assert updraft("run", "--fly", "x").exit_code == 2
