"""Prompts to calibrate on: JSON lines, a JSON array, or plain text with one prompt a line."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from updraft.errors import InvalidRequest
from updraft.generation import ChatMessage

__all__ = ["CalibrationPrompt", "read_prompts"]

_TEXTS: Final = ("prompt", "question", "instruction", "text")
_ROLES: Final = frozenset({"system", "user", "assistant"})


@dataclass(frozen=True, slots=True)
class CalibrationPrompt:
    """One question; `key` names it in results without its text."""

    messages: tuple[ChatMessage, ...]
    key: str

    @classmethod
    def of(cls, messages: Sequence[ChatMessage]) -> CalibrationPrompt:
        text = json.dumps([[message.role, message.content] for message in messages])
        return cls(tuple(messages), hashlib.sha256(text.encode()).hexdigest()[:16])


def read_prompts(source: str, *, most: int | None = None, seed: int = 0) -> list[CalibrationPrompt]:
    """Prompts of a file, or of standard input for `-`, each once; `most` of them, drawn with `seed`.

    A JSON object has `messages`, or `turns` (the first one is asked), or `prompt`, `question`, `instruction` (with
    `input`) or `text`. A file is JSON if it ends in .json or .jsonl or its first line is an object or an array.

    Raises:
        InvalidRequest: it cannot be read, holds no prompt, or a line is none: with its number and the reason.
    """
    name = "standard input" if source == "-" else source
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "cannot be read"
        raise _bad(f"{name} {reason}") from error
    found = list({prompt.key: prompt for prompt in _prompts(text, name)}.values())
    if not found:
        raise _bad(f"{name} holds no prompts")
    # The promise is about prompts like these: which are taken, and their order, must not depend on the file's order.
    random.Random(seed).shuffle(found)
    return found[:most]


def _prompts(text: str, name: str) -> Iterator[CalibrationPrompt]:
    start = text.lstrip()[:1]
    if start == "[":
        for place, item in enumerate(_array(text, name), start=1):
            yield _of_object(item, f"{name}, entry {place}")
        return
    as_json = start == "{" or name.endswith((".jsonl", ".json"))
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        yield _of_object(_parsed(line, where), where) if as_json else _of_text(line, where)


def _array(text: str, name: str) -> list[Any]:
    items = _parsed(text, name)
    if not isinstance(items, list):
        raise _bad(f"{name} is no array of prompts")
    return items


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deep"
        raise _bad(f"{where} is not JSON: {reason}") from error


def _of_object(item: Any, where: str) -> CalibrationPrompt:
    if isinstance(item, str):
        return _of_text(item, where)
    if not isinstance(item, dict):
        raise _bad(f"{where} is a {type(item).__name__}; it must be an object or a string")
    if "messages" in item:
        return CalibrationPrompt.of(_messages(item["messages"], where))
    if "turns" in item:
        turns = item["turns"]
        if not isinstance(turns, list) or not turns:
            raise _bad(f"{where}: turns must be a list with at least one text")
        return _of_text(turns[0], where)
    for field in _TEXTS:
        if field in item:
            more = item.get("input") if field == "instruction" else None
            return _of_text(f"{item[field]}\n\n{more}" if more and isinstance(more, str) else item[field], where)
    raise _bad(f"{where} has none of messages, turns, {', '.join(_TEXTS)}")


def _of_text(text: Any, where: str) -> CalibrationPrompt:
    if not isinstance(text, str) or not text.strip():
        raise _bad(f"{where}: the prompt is {'empty' if isinstance(text, str) else 'not a text'}")
    return CalibrationPrompt.of([ChatMessage("user", text.strip())])


def _messages(items: Any, where: str) -> list[ChatMessage]:
    if not isinstance(items, list) or not items:
        raise _bad(f"{where}: messages must be a list with at least one message")
    found = []
    for item in items:
        role = item.get("role") if isinstance(item, dict) else None
        content = item.get("content") if isinstance(item, dict) else None
        if role not in _ROLES or not isinstance(content, str) or not content.strip():
            raise _bad(f"{where}: a message needs a role ({', '.join(sorted(_ROLES))}) and a text as content")
        found.append(ChatMessage(str(role), content))
    if found[-1].role == "assistant":
        raise _bad(f"{where}: the last message is the assistant's; it must be the user's")
    return found


def _bad(reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"{reason}.", remedy="Give one prompt a line, as text or as JSON with `prompt` or `messages`.", param="prompts"
    )
