"""An OpenAI-compatible endpoint on loopback that plays a script, with faults down to the bytes of the connection."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["CUT", "Asked", "FakeEndpoint", "Reply", "error", "grades", "stream", "whole"]

CUT = "cut"
"""In a reply's parts: reset the connection here."""

Part = bytes | float | str


@dataclass(slots=True)
class Reply:
    """What to answer. `parts` are written one by one: bytes, seconds to wait, or `CUT`; then the connection closes."""

    parts: Sequence[Part]
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes


def _event(data: Any) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def stream(
    *texts: str, finish: str | None = "stop", usage: tuple[int, int] | None = None, done: bool = True, chat: bool = True
) -> Reply:
    """A streamed answer, one event for each text."""
    events = []
    for text in texts:
        said: dict[str, Any] = {"delta": {"content": text}} if chat else {"text": text}
        events.append(_event({"choices": [{"index": 0, **said, "finish_reason": None}]}))
    if finish is not None:
        said = {"delta": {}} if chat else {"text": ""}
        events.append(_event({"choices": [{"index": 0, **said, "finish_reason": finish}]}))
    if usage is not None:
        events.append(_event({"choices": [], "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}}))
    return Reply([*events, *([b"data: [DONE]\n\n"] if done else [])])


def whole(text: str, *, logprobs: Any = None, usage: tuple[int, int] | None = (5, 1)) -> Reply:
    """An answer that does not stream."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    data: dict[str, Any] = {"choices": [choice | {"logprobs": logprobs}]}
    if usage is not None:
        data["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Reply([json.dumps(data).encode()], content_type="application/json")


def grades(digits: dict[str, float]) -> Reply:
    """A one-token answer with these alternatives and log-probabilities."""
    top = [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in digits.items()]
    best = max(digits, key=lambda token: digits[token])
    return whole(best, logprobs={"content": [{"token": best, "logprob": digits[best], "top_logprobs": top}]})


def error(status: int, message: str = "no", **headers: str) -> Reply:
    """An error in OpenAI's shape; underscores in names of headers stand for hyphens."""
    body = json.dumps({"error": {"message": message, "type": "x", "code": None}}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply([body], status, "application/json", named)


Script = Callable[[Asked], Reply] | Iterable[Reply]


class FakeEndpoint:
    """Answers with the script's replies in turn, the last of them again and again.

    Attributes:
        asked: every POST so far.
        connections: how many were opened.
    """

    def __init__(self, script: Script, *, models: Sequence[str] = ("big",)) -> None:
        self._script = script if callable(script) else _in_turn(list(script))
        self._models = models
        self.asked: list[Asked] = []
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = head.split(" ", 2)
        lines = (line.partition(": ") for line in head.split("\r\n")[1:] if line)
        headers = {name.lower(): value for name, _, value in lines}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        if method == "GET":
            listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in self._models]}
            reply = Reply([json.dumps(listed).encode()], content_type="application/json")
        else:
            asked = Asked(path.removeprefix("/v1/"), headers, json.loads(raw), raw)
            self.asked.append(asked)
            reply = self._script(asked)
        await _write(reply, writer)


async def _write(reply: Reply, writer: asyncio.StreamWriter) -> None:
    lines = [f"HTTP/1.1 {reply.status} X", f"content-type: {reply.content_type}", "connection: close"]
    if CUT in reply.parts:  # the client must be able to tell a cut from an end
        lines.append("transfer-encoding: chunked")
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    for part in reply.parts:
        if isinstance(part, str):
            await writer.drain()
            await asyncio.sleep(0.05)  # what was written is read before the reset drops it
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            return
        if isinstance(part, float):
            await writer.drain()
            await asyncio.sleep(part)
        else:
            writer.write(b"%x\r\n%s\r\n" % (len(part), part) if CUT in reply.parts else part)
            await writer.drain()


def _in_turn(replies: list[Reply]) -> Callable[[Asked], Reply]:
    def following(_asked: Asked) -> Reply:
        return replies.pop(0) if len(replies) > 1 else replies[0]

    return following
