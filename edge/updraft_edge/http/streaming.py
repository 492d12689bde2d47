"""Writes an answer to a connection: whole as JSON, or token by token as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from updraft.errors import UpdraftError
from updraft.generation import Completion, TokenEvent
from updraft.solution import ProgressEvent
from updraft_edge.http.body import ClientGone
from updraft_edge.http.choices import Choices, Follower, Step
from updraft_edge.http.errors import error_body, log_unexpected
from updraft_edge.http.openai_format import AnswerFormat
from updraft_edge.http.plan import Plan

__all__ = ["KEEPALIVE_SECONDS", "WRITE_SECONDS", "send_stream", "send_whole"]

KEEPALIVE_SECONDS = 15.0
WRITE_SECONDS = 30.0
"""A client that reads nothing for this long has gone, and its answer is given up."""

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the events
]


async def send_whole(
    generator: Follower, plan: Plan, form: AnswerFormat, scope: Scope, receive: Receive, send: Send
) -> None:
    """Run the plan, then send its answer; raises what a choice failed with, and nothing was sent."""
    events: list[list[TokenEvent]] = [[] for _ in plan.requests]
    completions: dict[int, Completion] = {}
    async with Choices(generator, plan.requests) as choices:
        while choices.unfinished:
            for index, step in await choices.take():
                if isinstance(step, Completion):
                    completions[index] = step
                elif isinstance(step, TokenEvent):
                    events[index].append(step)
    answer = form.whole([completions[index] for index in range(len(events))], events)
    await JSONResponse(answer)(scope, receive, send)


async def send_stream(generator: Follower, plan: Plan, form: AnswerFormat, send: Send) -> None:
    """Run the plan and send its tokens as they come, with a comment now and then while there are none.

    A failure before the first token is raised with nothing sent, so that it gets a status of its own (unless it
    takes longer than the first comment); a later one is sent as the last event.
    """
    async with Choices(generator, plan.requests) as choices:
        steps = await choices.take(KEEPALIVE_SECONDS)
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        try:
            await _send_events(choices, steps, plan, form, send)
        except ClientGone:
            raise
        except Exception as error:
            if not isinstance(error, UpdraftError):
                log_unexpected(error)
            await _write(send, _encoded(error_body(error)[1]))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_events(choices: Choices, steps: list[Step], plan: Plan, form: AnswerFormat, send: Send) -> None:
    opening = (form.opening(index) for index in range(len(plan.requests)))
    await _write(send, b"".join(_encoded(chunk) for chunk in opening if chunk is not None))
    completions: dict[int, Completion] = {}
    while True:
        completions |= {index: step for index, step in steps if isinstance(step, Completion)}
        await _write(send, b"".join(_chunks(form, steps)) if steps else b": keepalive\n\n")
        if not choices.unfinished:
            break
        steps = await choices.take(KEEPALIVE_SECONDS)
    ending = _encoded(form.usage([completions[i] for i in sorted(completions)])) if plan.include_usage else b""
    await _write(send, ending + b"data: [DONE]\n\n")


def _chunks(form: AnswerFormat, steps: Iterable[Step]) -> Iterable[bytes]:
    for index, step in steps:
        chunk: dict[str, Any] | None
        match step:
            case Completion():
                chunk = form.last(index, step)
            case ProgressEvent():
                chunk = form.progress(index, step)
            case _:
                chunk = form.token(index, step)
        if chunk is not None:
            yield _encoded(chunk)


def _encoded(chunk: dict[str, Any]) -> bytes:
    # ASCII only: some clients take U+2028 and its like for the end of a line.
    return b"data: " + json.dumps(chunk, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n\n"


async def _write(send: Send, data: bytes) -> None:
    if not data:
        return
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            await send({"type": "http.response.body", "body": data, "more_body": True})
    except TimeoutError:
        raise ClientGone from None
