"""Which request fields are refused or ignored, and how validation errors read."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from updraft.errors import InvalidRequest

__all__ = ["IGNORED", "UNSUPPORTED", "invalid_field", "supported_fields"]

IGNORED = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""OpenAI's fields that are accepted without effect: none of them could change the text of an answer."""

_Harmless = Callable[[Any, Mapping[str, Any]], bool]


def _one_of(*values: object) -> _Harmless:
    return lambda value, data: value is None or value in values


UNSUPPORTED: dict[str, _Harmless] = {
    "audio": _one_of(),
    "function_call": _one_of("none", "auto"),
    "functions": _one_of([]),
    "modalities": _one_of(["text"]),
    "response_format": _one_of({"type": "text"}),
    "suffix": _one_of(""),
    "tool_choice": _one_of("none", "auto"),
    "tools": _one_of([]),
    "verbosity": _one_of(),
    "web_search_options": _one_of(),
}
"""OpenAI's fields that would change an answer in ways that this server cannot, each with a test of harmless values."""


def supported_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """The request without ignored fields and without unsupported ones whose value asks for nothing.

    Raises:
        InvalidRequest: an unsupported field asks for something.
    """
    for name, harmless in UNSUPPORTED.items():
        if name in data and not harmless(data[name], data):
            raise InvalidRequest(f"{name} is not supported.", remedy=f"Send the request without {name}.", param=name)
    return {name: value for name, value in data.items() if name not in IGNORED and name not in UNSUPPORTED}


def invalid_field(error: ValidationError) -> InvalidRequest:
    """The first thing wrong with a request, with the value that was given."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    where = ".".join(str(part) for part in first["loc"])
    if not where:  # two fields that do not go together
        return InvalidRequest(f"{message}.")
    if first["type"] == "extra_forbidden":
        return InvalidRequest(f"There is no field {where!r}.", remedy="Remove it or correct its name.", param=where)
    if first["type"] == "missing":
        return InvalidRequest(f"{where} is missing.", param=where)
    # reprlib keeps long and deeply nested values short.
    return InvalidRequest(f"{where} is {reprlib.repr(first['input'])}: {message}.", param=where)
