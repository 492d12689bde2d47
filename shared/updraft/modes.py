"""Modes and their settings: what a request, the configuration file and the HTTP extension key may say."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from updraft.errors import InvalidRequest, UnknownName
from updraft.mode_settings import (
    AcceptanceSettings,
    AutoSettings,
    BudgetSettings,
    ExitSettings,
    LookupSettings,
    ReasonSettings,
    RouteSettings,
    SpanSettings,
    StopSettings,
)

__all__ = ["TEXT_MODES", "Mode", "ModeSettings", "Origin", "parse_settings"]


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
    AUTO = "auto"  # chooses among the modes from device, link, prompt and past results


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
        default=Mode.DRAFT, description="edge, cloud, draft, lookup, cascade, span, route, reason, exit or auto."
    )
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
    if "mode" in data and data["mode"] not in list(Mode):
        known = ", ".join(Mode)
        raise UnknownName(f"There is no mode {data['mode']!r}; modes are {known}.", param="updraft.mode")
    if isinstance(profile := data.get("profile"), str):
        if not profile.replace("-", "").replace("_", "").replace(".", "").isalnum() or profile.endswith(".json"):
            raise InvalidRequest("profile must be a name, not a file.", param="updraft.profile")
        base = {key: value for key, value in base.items() if key == "local_only"}
    for key, value in data.items():
        base[key] = {**base[key], **value} if isinstance(base.get(key), dict) and isinstance(value, dict) else value
    try:
        return ModeSettings.model_validate(base)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["updraft", *map(str, first["loc"])])
        raise InvalidRequest(f"{where}: {first['msg']}.", param=where) from error
