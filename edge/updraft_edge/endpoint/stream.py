"""What an OpenAI-compatible endpoint sends: server-sent events and the pieces of text in them, all of it bounded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from updraft.errors import CloudUnavailable, Overloaded, UpdraftError

__all__ = ["MOST_EVENT_BYTES", "MOST_PIECE_CHARACTERS", "Piece", "Usage", "event_data", "parse_json", "read_piece"]

MOST_EVENT_BYTES = 1 << 20
MOST_PIECE_CHARACTERS = 1 << 16

_REMEDY = "Check that edge.endpoint.url is that of an OpenAI-compatible server, with its version, such as /v1."


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the endpoint counts them."""

    prompt: int
    answer: int


@dataclass(frozen=True, slots=True)
class Piece:
    """What one event says: some text, why the answer has ended, what it took. Each may be missing."""

    text: str = ""
    finish: str | None = None
    usage: Usage | None = None


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The data of each server-sent event (WHATWG HTML, section 9.2.6), up to `[DONE]`.

    Raises CloudUnavailable where an event is longer than `MOST_EVENT_BYTES` or is no UTF-8.
    """
    data: list[str] = []
    size = 0
    async for line in _lines(chunks):
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
            size += len(value)
            if size > MOST_EVENT_BYTES:
                raise _too_long()
        elif not line and data:
            text = "\n".join(data)
            data, size = [], 0
            if text.strip() == "[DONE]":
                return
            yield text


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Lines that end with CR LF or LF, what follows the last of them, and an empty one, which ends an event."""
    buffer = bytearray()
    async for chunk in chunks:
        searched = len(buffer)
        buffer += chunk
        start = 0
        while (end := buffer.find(b"\n", max(start, searched))) >= 0:
            yield _decoded(bytes(buffer[start:end]).removesuffix(b"\r"))
            start = end + 1
        del buffer[:start]
        if len(buffer) > MOST_EVENT_BYTES:
            raise _too_long()
    if buffer:
        yield _decoded(bytes(buffer))
    yield ""


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CloudUnavailable("The endpoint sent what is not UTF-8.", remedy=_REMEDY) from error


def parse_json(text: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises CloudUnavailable where it is none."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CloudUnavailable("The endpoint sent what is not JSON.", remedy=_REMEDY) from error
    if not isinstance(data, dict):
        raise CloudUnavailable("The endpoint sent JSON that is not an object.", remedy=_REMEDY)
    return data


def read_piece(data: dict[str, Any]) -> Piece:
    """The piece of a chunk or of a whole answer, of /v1/chat/completions or /v1/completions.

    Raises CloudUnavailable or Overloaded where it is an error, or not of that shape.
    """
    if data.get("error"):
        raise _reported(data["error"])
    choices = data.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices[:1]):
        raise _shapeless()
    choice: dict[str, Any] = choices[0] if choices else {}
    holder = choice.get("delta") or choice.get("message") or {}
    if not isinstance(holder, dict):
        raise _shapeless()
    text = choice.get("text") if "text" in choice else holder.get("content")
    finish = choice.get("finish_reason")
    if not isinstance(text, str | None) or not isinstance(finish, str | None):
        raise _shapeless()
    text = (text or "").encode("utf-8", "replace").decode()  # half of a surrogate pair is no text
    if len(text) > MOST_PIECE_CHARACTERS:
        raise _too_long()
    return Piece(text, finish, _usage(data.get("usage")))


def _usage(data: object) -> Usage | None:
    if not isinstance(data, dict):
        return None
    prompt, answer = data.get("prompt_tokens"), data.get("completion_tokens")
    if type(prompt) is not int or type(answer) is not int or not (0 <= prompt < 2**40 and 0 <= answer < 2**40):
        return None
    return Usage(prompt, answer)


def _reported(error: object) -> UpdraftError:
    message, code = "", None
    if isinstance(error, dict):
        message, code = str(error.get("message") or ""), error.get("code") or error.get("type")
    said = f"The endpoint broke off with an error: {(message or str(error))[:200]}"
    return Overloaded(said) if code in {429, "429", "rate_limit_error", "overloaded"} else CloudUnavailable(said)


def _shapeless() -> CloudUnavailable:
    return CloudUnavailable("The endpoint sent an answer of a shape that nobody knows.", remedy=_REMEDY)


def _too_long() -> CloudUnavailable:
    return CloudUnavailable("The endpoint sent a piece that is far too long.", remedy=_REMEDY)
