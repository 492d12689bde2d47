from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest

from updraft.logging_setup import configure_logging, log_fields

pytestmark = pytest.mark.usefixtures("restored_logging")


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


def test_lines_of_a_block_carry_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    log = logging.getLogger("updraft.test")
    with log_fields(request="r1", tenant=""):
        with log_fields(session="s1"):
            log.info("inside", extra={"request": "its own"})
        log.info("around")
    log.info("outside")
    inside, around, outside = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (inside["request"], inside["session"]) == ("its own", "s1")
    assert around["request"] == "r1" and "session" not in around and "tenant" not in around
    assert "request" not in outside


def test_text_lines_end_with_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    with log_fields(request="r1", session="s1"):
        logging.getLogger("updraft.test").info("inside")
    assert capsys.readouterr().err.endswith("updraft.test: inside | request=r1 session=s1\n")


async def test_tasks_of_a_block_carry_its_fields_whichever_task_ends_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info", "json")
    log = logging.getLogger("updraft.test")

    async def later() -> None:
        log.info("in a task")

    async def answer() -> AsyncIterator[int]:
        with log_fields(request="r1"):
            await asyncio.create_task(later())
            yield 1

    events = answer()
    assert await anext(events) == 1
    await asyncio.create_task(drained(events))  # another context than the one that entered the block
    log.info("after")
    first, after = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first["request"] == "r1"
    assert after["message"] == "after"


async def drained(events: AsyncIterator[int]) -> None:
    async for _ in events:
        pass
