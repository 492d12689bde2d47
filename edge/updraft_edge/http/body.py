"""Reads a request's body: bounded while it arrives, then strictly UTF-8 and strictly JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, NoReturn

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from updraft.errors import InvalidRequest, RequestTooLarge

__all__ = ["BODY_SECONDS", "ClientGone", "decode_json", "read_body"]

BODY_SECONDS = 30.0
DISCARD_SECONDS = 1.0


class ClientGone(Exception):
    """The client closed the connection; there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body.

    Raises:
        RequestTooLarge: it is announced as, or grows, longer than `limit` bytes; no more than that was kept.
        InvalidRequest: it did not arrive within `BODY_SECONDS`.
        ClientGone: the client closed the connection first.
    """
    announced = Headers(scope=scope).get("content-length", "")
    too_large = announced.isdecimal() and int(announced[:20]) > limit
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while not too_large:
                part, more = await _part(receive)
                body += part
                too_large = len(body) > limit
                if not more:
                    break
    except TimeoutError:
        raise InvalidRequest(f"The body did not arrive within {BODY_SECONDS:g} seconds.", param="body") from None
    if too_large:
        await _discard(receive)
        raise RequestTooLarge(f"The body is longer than the {limit} bytes that are allowed.", param="body")
    return bytes(body)


async def _part(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)


async def _discard(receive: Receive) -> None:
    """Let a client finish sending for a moment: closing on it at once would reset the connection, and the answer
    that says why would be lost."""
    with contextlib.suppress(TimeoutError, ClientGone):
        async with asyncio.timeout(DISCARD_SECONDS):
            more = True
            while more:
                _, more = await _part(receive)


def decode_json(body: bytes) -> dict[str, Any]:
    """The body's JSON object.

    Raises:
        InvalidRequest: not UTF-8, not JSON (NaN and Infinity are not), not an object, nested too deeply, or with
            half of a surrogate pair in a string.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid(f"is not UTF-8 at byte {error.start}") from None
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
        if "\\ud" in text.lower():
            json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise _invalid("has half of a surrogate pair in a string") from None
    except RecursionError:
        raise _invalid("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _invalid(f"is not JSON: {error.msg} at character {error.pos}") from None
    except ValueError:  # an integer of thousands of digits
        raise _invalid("has a number with too many digits") from None
    if not isinstance(data, dict):
        raise _invalid(f"is a JSON {_json_type(data)}, not an object")
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise _invalid(f"has {name}, which is not JSON")


def _json_type(data: object) -> str:
    if data is None:
        return "null"
    return {list: "array", str: "string", bool: "boolean"}.get(type(data), "number")


def _invalid(how: str) -> InvalidRequest:
    return InvalidRequest(f"The body {how}.", remedy="Send a JSON object in UTF-8.", param="body")
