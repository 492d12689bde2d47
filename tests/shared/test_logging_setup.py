from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from updraft.logging_setup import configure_logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_json_lines_carry_level_logger_message_extras_and_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    log = logging.getLogger("updraft.test")
    log.debug("unseen")
    log.info("opened %s\nfor %d", "a session", 3, extra={"session": "s1", "cores": [0, 1]})
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("failed", extra={"odd": object})
    opened, failed = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert opened.pop("time").endswith("+00:00")
    assert opened == {
        "level": "info",
        "logger": "updraft.test",
        "message": "opened a session\nfor 3",
        "session": "s1",
        "cores": [0, 1],
    }
    assert failed["level"] == "error" and "ValueError: broken" in failed["traceback"]


def test_text_lines_and_levels(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", "text")
    logging.getLogger("updraft.test").info("unseen")
    logging.getLogger("updraft.test").warning("the link is %s", "down")
    captured = capsys.readouterr()
    assert captured.err.endswith("WARNING updraft.test: the link is down\n") and captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_second_call_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "text")
    configure_logging("error", "json")
    logging.getLogger("updraft.test").warning("unseen")
    logging.getLogger("updraft.test").error("once")
    assert [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()] == ["once"]
