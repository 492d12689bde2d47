"""Code and JSON in an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["NOTHING", "PYTHON", "fenced", "find_json"]

PYTHON: Final = frozenset({"python", "python3", "py"})

_FENCE: Final = re.compile(r"^[ \t]*```[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_TRIES: Final = 64  # places where a bare document may begin

NOTHING: Final = object()
"""There is no JSON in the text; a document may be null."""


def fenced(text: str, languages: frozenset[str]) -> str | None:
    """The last fenced block of one of these languages, or without one; a fence that stays open ends with the text."""
    found = [match[2] for match in _FENCE.finditer(text) if match[1].lower() in languages | {""}]
    return found[-1] if found else None


def find_json(text: str) -> Any:
    """The document that a text gives: all of it, its last fenced block, or the first object or array in it.

    `NOTHING` where there is none. Numbers must be finite, and no object may name a key twice.
    """
    for part in _candidates(text):
        try:
            return _DECODER.decode(part.strip())
        except (ValueError, RecursionError):
            continue
    for start in [match.start() for match in re.finditer(r"[{\[]", text)][:_TRIES]:
        try:
            return _DECODER.raw_decode(text, start)[0]
        except (ValueError, RecursionError):
            continue
    return NOTHING


def _candidates(text: str) -> Iterator[str]:
    yield text
    if (block := fenced(text, frozenset({"json"}))) is not None:
        yield block


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is named twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
