"""Verifiers that a request may name: which are allowed, and how each is made from what the engine's process has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from updraft.config.strategies import StrategySettings
from updraft.errors import InvalidRequest, UnknownName
from updraft.strategies import Forks
from updraft.verifiers import Verifier

__all__ = ["MAKERS", "Resources", "make_verifier", "verifier_names"]


@dataclass(frozen=True, slots=True)
class Resources:
    """What a verifier may use: the request's own model as a `Reader`, and what the settings name."""

    reader: Forks
    settings: StrategySettings


MAKERS: Final[dict[str, Callable[[dict[str, Any], Resources], Verifier]]] = {}
"""Makes a verifier of a name from its settings. Each may raise InvalidRequest."""


def verifier_names(settings: StrategySettings) -> list[str]:
    """Names that requests may use."""
    return [name for name in MAKERS if settings.verifiers is None or name in settings.verifiers]


def make_verifier(spec: dict[str, Any], resources: Resources) -> Verifier:
    """The verifier that a request names.

    Raises:
        UnknownName: there is none of this name, or it is not allowed.
        InvalidRequest: its settings are wrong.
    """
    name = spec.get("name")
    allowed = verifier_names(resources.settings)
    if not isinstance(name, str):
        raise InvalidRequest("The verifier has no name.", param="updraft.verifier")
    if name not in allowed:
        known = ", ".join(allowed) or "none"
        raise UnknownName(f"There is no verifier {name[:64]!r} here; there is: {known}.", param="updraft.verifier")
    return MAKERS[name]({key: value for key, value in spec.items() if key != "name"}, resources)
