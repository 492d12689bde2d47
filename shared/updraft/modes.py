"""Modes and their settings: what a request, the configuration file and the HTTP extension key may say."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from updraft.errors import InvalidRequest, UnknownName
from updraft.mode_settings import (
    AcceptanceSettings,
    AutoSettings,
    BudgetSettings,
    ExitSettings,
    LookupSettings,
    ReasonSettings,
    RouteSettings,
    SolveSettings,
    SpanSettings,
    StopSettings,
)

__all__ = [
    "MAX_SPEC_BYTES",
    "MAX_SPEC_DEPTH",
    "TEXT_MODES",
    "Effort",
    "Mode",
    "ModeSettings",
    "Origin",
    "depth_of",
    "means_solve",
    "parse_settings",
]


MAX_SPEC_BYTES: Final = 16_384
"""Of a strategy or a verifier with its settings, as JSON."""

MAX_SPEC_DEPTH: Final = 64
"""Lists and objects in each other, in the same."""


_WHOLE: Final = frozenset({"strategy", "verifier"})  # objects that are not laid over others


class Mode(StrEnum):
    """A named composition of drafter, stop rule, escalation policy and acceptance rule."""

    EDGE = "edge"  # the edge model alone
    CLOUD = "cloud"  # the cloud writes everything
    DRAFT = "draft"  # the edge drafts, the cloud verifies: the cloud's own text, losslessly
    LOOKUP = "lookup"  # prompt and past answers draft, the cloud verifies, losslessly (Lookahead, ADED)
    CASCADE = "cascade"  # as `draft`, but good enough stands (speculative cascades, arXiv 2405.19261; Sirius)
    SPAN = "span"  # the edge writes, the cloud takes over where entropy is high (EAD, arXiv 2502.06833)
    ROUTE = "route"  # one score sends the whole answer to one tier (E-LANG, RouteLLM)
    REASON = "reason"  # the edge writes a step, the cloud scores it and rewrites the bad ones (SpecReason)
    EXIT = "exit"  # confident tokens leave the model early, the cloud computes on from there (CE-CoLLM, 2411.02829)
    SOLVE = "solve"  # samples, searches and votes: compute on one prompt, bounded by effort or budget
    AUTO = "auto"  # chooses among the modes from device, link, prompt and past results


class Effort(StrEnum):
    """How much compute an answer is worth; see `updraft.strategies.effort`."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    MAX = "max"


TEXT_MODES = frozenset({Mode.CLOUD, Mode.ROUTE, Mode.REASON})
"""Modes whose cloud may be any OpenAI-compatible endpoint: whole answers or steps go up and down as text."""


class Origin(StrEnum):
    """The tier that wrote a token."""

    EDGE = "edge"
    CLOUD = "cloud"


class ModeSettings(BaseModel):
    """The value of the HTTP extension key `updraft`, the `[edge.mode]` table and the SDK's `settings`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = Field(
        default=Mode.DRAFT, description="edge, cloud, draft, lookup, cascade, span, route, reason, exit, solve or auto."
    )
    effort: Effort | None = Field(
        default=None,
        description="none, low, medium, high or max: how much the mode `solve` spends. Above none, and without a mode, "
        "it chooses that mode.",
    )
    strategy: str | dict[str, Any] | None = Field(
        default=None,
        description="Strategy of the mode `solve`: its name, or an object with `name` and the strategy's settings; the "
        "effort says when left out. Without a mode it chooses that mode.",
    )
    verifier: str | dict[str, Any] | None = Field(
        default=None,
        description="Who judges answers in the mode `solve`: its name, or an object with `kind` and the verifier's "
        "settings.",
    )
    solve: SolveSettings = Field(default=SolveSettings(), description="The edge's part in the mode `solve`.")
    profile: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Name or file of a profile that `updraft calibrate` made: its settings lie under those given here.",
    )
    stop: StopSettings = Field(default=StopSettings(), description="Stop rule of the modes `draft` and `cascade`.")
    lookup: LookupSettings = Field(default=LookupSettings(), description="Drafts without a model.")
    acceptance: AcceptanceSettings = Field(default=AcceptanceSettings(), description="Rule of the mode `cascade`.")
    span: SpanSettings = Field(default=SpanSettings(), description="Score and thresholds of the mode `span`.")
    route: RouteSettings = Field(default=RouteSettings(), description="Score and threshold of the mode `route`.")
    reason: ReasonSettings = Field(default=ReasonSettings(), description="Steps of the mode `reason`.")
    budget: BudgetSettings = Field(default=BudgetSettings(), description="What escalation may cost.")
    auto: AutoSettings = Field(default=AutoSettings(), description="What the mode `auto` aims for.")
    exit: ExitSettings = Field(
        default=ExitSettings(), description="Early exit: the mode `exit`, and how a staged edge model drafts."
    )
    local_only: bool = Field(default=False, description="Never open a connection for this request.")

    @model_validator(mode="before")
    @classmethod
    def _solves(cls, data: Any) -> Any:
        """Who asks for effort or a strategy and names no mode means the mode `solve`."""
        if isinstance(data, dict) and "mode" not in data and means_solve(data):
            return data | {"mode": Mode.SOLVE}
        return data

    @field_validator("strategy", "verifier")
    @classmethod
    def _named(cls, value: str | dict[str, Any] | None, field: ValidationInfo) -> str | dict[str, Any] | None:
        key = "name" if field.field_name == "strategy" else "kind"
        if isinstance(value, dict) and not isinstance(value.get(key), str):
            raise ValueError(f"an object must have a {key}")
        if depth_of(value) > MAX_SPEC_DEPTH:
            raise ValueError("it is nested too deeply")
        if value is not None and len(json.dumps(value, default=repr)) > MAX_SPEC_BYTES:
            raise ValueError(f"it has more than {MAX_SPEC_BYTES} bytes")
        return value


def parse_settings(data: Any, defaults: ModeSettings | None = None) -> ModeSettings:
    """Settings from a decoded JSON object laid over `defaults`; what neither says stays unset, for a profile to say.

    Settings that name a profile start from that instead, of the defaults only `local_only` holds for them. A request
    may name one, and not make the agent read a file.

    Raises:
        UnknownName: the mode does not exist.
        InvalidRequest: another field is unknown or out of range.
    """
    base = (defaults or ModeSettings()).model_dump(exclude_unset=True)
    if not isinstance(data, dict):
        raise InvalidRequest(f"updraft is a {type(data).__name__}; it must be an object.", param="updraft")
    if "effort" in data and data["effort"] not in (None, *Effort):
        known = ", ".join(Effort)
        raise UnknownName(f"There is no effort {data['effort']!r}; efforts are {known}.", param="updraft.effort")
    if means_solve(data):
        if data.get("mode", Mode.SOLVE) != Mode.SOLVE:
            named = "strategy" if data.get("strategy") is not None else "effort"
            raise InvalidRequest(
                f"{named} goes with the mode solve, not with {data['mode']!s}.", param=f"updraft.{named}"
            )
        base["mode"] = Mode.SOLVE
    if "mode" in data and data["mode"] not in list(Mode):
        known = ", ".join(Mode)
        raise UnknownName(f"There is no mode {data['mode']!r}; modes are {known}.", param="updraft.mode")
    if isinstance(profile := data.get("profile"), str):
        if not profile.replace("-", "").replace("_", "").replace(".", "").isalnum() or profile.endswith(".json"):
            raise InvalidRequest("profile must be a name, not a file.", param="updraft.profile")
        base = {key: value for key, value in base.items() if key == "local_only"}
    for key, value in data.items():
        laid = key not in _WHOLE and isinstance(base.get(key), dict) and isinstance(value, dict)
        base[key] = {**base[key], **value} if laid else value
    try:
        settings = ModeSettings.model_validate(base)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["updraft", *map(str, first["loc"])])
        raise InvalidRequest(f"{where}: {first['msg']}.", param=where) from error
    if data.get("verifier") is not None and settings.mode is not Mode.SOLVE and settings.profile is None:
        raise InvalidRequest(
            f"A verifier judges in the mode solve, not in {settings.mode}.",
            remedy="Add an effort or a strategy.",
            param="updraft.verifier",
        )
    if settings.strategy is not None or settings.verifier is not None:
        from updraft.strategies.effort import check_names  # what strategies run on, which few requests need

        check_names(settings)
    return settings


def depth_of(value: object) -> int:
    """How deep the lists and objects of decoded JSON are in each other; 0 for a plain value."""
    depth, level = 0, [value]
    while outer := [each for each in level if isinstance(each, list | dict)]:
        depth += 1
        level = [inner for each in outer for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def means_solve(data: dict[str, Any]) -> bool:
    """Settings that name no mode ask for compute, and so for the mode `solve`."""
    return data.get("effort") not in (None, Effort.NONE) or data.get("strategy") is not None
