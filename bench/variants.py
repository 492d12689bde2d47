"""The ways of answering that a bench compares: every mode, and `draft` under several stop rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from updraft.errors import ConfigError, UpdraftError
from updraft.modes import Mode, ModeSettings, parse_settings

__all__ = ["ANY_PAIR", "Variant", "variants"]

ANY_PAIR = (Mode.EDGE, Mode.CLOUD, Mode.DRAFT, Mode.SPAN)
"""The modes that are measured unless others are named; they need nothing of the edge's model."""

_REMEDY = "Write fixed:4, risk, risk:0.3 or entropy:1.5."


@dataclass(frozen=True, slots=True)
class Variant:
    """A mode under a name, such as `draft fixed:4`.

    Attributes:
        edge_model: of its agent; the bench's own when None.
    """

    name: str
    settings: ModeSettings
    edge_model: str | None = None

    @property
    def mode(self) -> Mode:
        return self.settings.mode


def variants(modes: Sequence[str], stops: Sequence[str] = ()) -> list[Variant]:
    """One variant a mode; `draft` once for each stop rule, or once with its defaults where none is named.

    Raises:
        UnknownName: a mode that does not exist.
        ConfigError: a malformed stop rule.
    """
    found = []
    rules = dict.fromkeys(stops)  # without repetitions
    for mode in dict.fromkeys(modes):
        if mode == Mode.DRAFT and rules:
            found += [Variant(f"draft {stop}", parse_settings({"mode": mode, "stop": _stop(stop)})) for stop in rules]
        else:
            found.append(Variant(mode, parse_settings({"mode": mode})))
    return found


def _stop(text: str) -> dict[str, Any]:
    """Stop settings from RULE or RULE:VALUE."""
    rule, colon, value = text.partition(":")
    key = {"fixed": "length", "risk": "risk", "entropy": "entropy"}.get(rule)
    if key is None:
        raise ConfigError(f"There is no stop rule {rule!r}; rules are fixed, risk, entropy.", remedy=_REMEDY)
    given = {"rule": rule} | ({key: value} if colon else {})
    try:
        parse_settings({"stop": given})
    except UpdraftError as error:
        raise ConfigError(f"The stop rule {text!r} cannot be used: {error.message}", remedy=_REMEDY) from error
    return given
