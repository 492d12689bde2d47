"""What is compared: the two tiers alone, and policies with the values that are tried of their settings."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from updraft.errors import InvalidRequest
from updraft.evaluation.tasks.base import TaskOptions
from updraft.modes import Mode, ModeSettings, parse_settings
from updraft.sampling import SamplingParams

__all__ = ["CLOUD", "EDGE", "Variant", "digest", "mode_policy", "parse_policy"]

_SECTIONS: Final = {
    Mode.DRAFT: "stop",
    Mode.LOOKUP: "lookup",
    Mode.CASCADE: "acceptance",
    Mode.SPAN: "span",
    Mode.ROUTE: "route",
    Mode.REASON: "reason",
    Mode.EXIT: "exit",
    Mode.AUTO: "auto",
}
"""Where a policy's key without a dot belongs."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One setting of one policy.

    Attributes:
        policy: what the points of one curve share.
        point: the values that tell this point from the others; empty where there is only one.
    """

    policy: str
    point: str
    settings: ModeSettings

    @property
    def name(self) -> str:
        return f"{self.policy} {self.point}".strip()

    @property
    def mode(self) -> Mode:
        return self.settings.mode


EDGE: Final = Variant("edge", "", ModeSettings(mode=Mode.EDGE))
CLOUD: Final = Variant("cloud", "", ModeSettings(mode=Mode.CLOUD))


def parse_policy(text: str) -> list[Variant]:
    """Variants of `MODE [KEY=VALUE[,VALUE...] ...]`; keys with several values are swept, all with all.

    A key without a dot belongs to the mode's own section: `span escalate=1,2` is `span.escalate`. Fixed values and
    swept words name the policy, swept numbers its points.

    Raises:
        InvalidRequest, UnknownName: no such mode or key, or a value out of range.
    """
    words = text.split()
    if not words:
        raise InvalidRequest("A policy is empty.", remedy='Write --policy "span escalate=1,2".', param="policy")
    mode = words[0]
    parse_settings({"mode": mode})
    choices = [_choices(Mode(mode), word) for word in words[1:]]
    variants = []
    for picked in itertools.product(*(values for _, values in choices)):
        pairs = [(key, value, len(values) > 1) for (key, values), value in zip(choices, picked, strict=True)]
        variants.append(_variant(Mode(mode), pairs))
    return variants


def mode_policy(mode: str, sweeps: Sequence[str], settings: Sequence[str]) -> str:
    """A policy's text from a mode, `--set` and those of `--sweep`, as PATH=VALUES, that are of this mode's section.

    Raises:
        UnknownName: there is no such mode.
    """
    section = _SECTIONS.get(parse_settings({"mode": mode}).mode, "")
    own = [sweep for sweep in sweeps if sweep.partition("=")[0].partition(".")[0] in (section, "budget")]
    return " ".join([mode, *settings, *own])


def digest(settings: ModeSettings, options: TaskOptions, sampling: SamplingParams, router: str | None = None) -> str:
    """A short hash of all that changes a result besides the models and the item; the router only where it is read."""
    learned = "learned" in (settings.span.score, settings.route.score)
    parts = [settings.model_dump(mode="json"), _plain(options), _plain(sampling), router if learned else None]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _choices(mode: Mode, word: str) -> tuple[str, list[str]]:
    key, equals, values = word.partition("=")
    if not equals or not key or not values:
        raise InvalidRequest(f"{word!r} in a policy is not KEY=VALUE.", param="policy")
    if "." not in key:
        if mode not in _SECTIONS:
            raise InvalidRequest(f"The mode {mode} has no settings of its own: {word!r}.", param="policy")
        key = f"{_SECTIONS[mode]}.{key}"
    return key, [value.strip() for value in values.split(",") if value.strip()]


def _variant(mode: Mode, pairs: Sequence[tuple[str, str, bool]]) -> Variant:
    data: dict[str, Any] = {"mode": mode.value}
    names: list[str] = []
    points: list[str] = []
    for key, value, swept in pairs:
        section, _, field = key.partition(".")
        data.setdefault(section, {})[field] = _value(value)
        short = f"{field}={value}" if section == _SECTIONS.get(mode) else f"{key}={value}"
        (points if swept and isinstance(_value(value), float | int) else names).append(short)
    return Variant(" ".join([mode.value, *names]), " ".join(points), parse_settings(data))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _plain(value: Any) -> dict[str, Any]:
    fields = {name: getattr(value, name) for name in value.__dataclass_fields__}
    return {name: dict(entry) if hasattr(entry, "items") else entry for name, entry in fields.items()}
