"""What `auto` may choose: modes with a few settings each."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from updraft.modes import TEXT_MODES, Mode, ModeSettings, parse_settings

__all__ = ["ARMS", "Arm", "arms_of", "settings_of"]


@dataclass(frozen=True, slots=True)
class Arm:
    """A mode and the settings that are laid over the request's own."""

    name: str
    mode: Mode
    patch: dict[str, Any] = field(default_factory=dict)


ARMS: Final = (
    Arm("edge", Mode.EDGE),
    Arm("cloud", Mode.CLOUD),
    Arm("draft", Mode.DRAFT),
    Arm("lookup", Mode.LOOKUP),
    Arm("cascade 0.3", Mode.CASCADE, {"acceptance": {"rule": "tolerance", "alpha": 0.3}}),
    Arm("cascade 0.6", Mode.CASCADE, {"acceptance": {"rule": "tolerance", "alpha": 0.6}}),
    Arm("span 1.2", Mode.SPAN, {"span": {"score": "entropy", "escalate": 1.2, "hand_back": 0.8}}),
    Arm("span 2", Mode.SPAN, {"span": {"score": "entropy", "escalate": 2.0, "hand_back": 1.2}}),
    Arm("span 3", Mode.SPAN, {"span": {"score": "entropy", "escalate": 3.0, "hand_back": 1.8}}),
    Arm("route", Mode.ROUTE),
    Arm("reason", Mode.REASON),
    Arm("exit", Mode.EXIT),
)
"""All arms, in the order in which equal ones are preferred. History files name them: a name keeps its meaning."""


def arms_of(
    modes: Collection[str], *, works: Callable[[Mode], bool], cloud: bool, text_only: bool = False
) -> list[Arm]:
    """The arms that can be chosen now, never none.

    Args:
        modes: that the settings allow.
        works: whether this agent can write in a mode at all.
        cloud: the cloud may be asked, and is there; if not, the edge writes whatever the settings allow.
        text_only: the cloud is an OpenAI-compatible endpoint.
    """
    if not cloud:
        return [ARMS[0]]
    usable = [arm for arm in ARMS if arm.mode in modes and works(arm.mode)]
    if text_only:
        usable = [arm for arm in usable if arm.mode in TEXT_MODES or arm.mode is Mode.EDGE]
    return usable or [ARMS[0]]


def settings_of(arm: Arm, base: ModeSettings) -> ModeSettings:
    """The settings of a request that this arm answers."""
    return parse_settings({"mode": arm.mode.value, **arm.patch}, base)
