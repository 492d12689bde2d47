"""Modes and their settings: what a request, the configuration file and the HTTP extension key may say."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from updraft.errors import InvalidRequest, UnknownName

__all__ = ["Mode", "ModeSettings", "Origin", "SpanSettings", "StopSettings", "parse_settings"]


class Mode(StrEnum):
    """A named composition of drafter, stop rule, escalation policy and acceptance rule."""

    EDGE = "edge"  # the edge model alone
    CLOUD = "cloud"  # the cloud writes everything
    DRAFT = "draft"  # the edge drafts, the cloud verifies: the cloud's own text, losslessly
    SPAN = "span"  # the edge writes, the cloud takes over where entropy is high (EAD, arXiv 2502.06833)


class Origin(StrEnum):
    """The tier that wrote a token."""

    EDGE = "edge"
    CLOUD = "cloud"


class StopSettings(BaseModel):
    """How long a drafted run gets before a verdict is asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: Literal["fixed", "risk", "entropy"] = Field(
        default="risk",
        description="fixed: `length` tokens; risk: until the probability that some token is rejected passes the "
        "threshold given by measured costs (SpecDec++, arXiv 2405.19715); entropy: until a token's entropy passes "
        "`entropy`.",
    )
    length: int = Field(default=6, ge=1, le=48, description="Run length of the rule `fixed`, tokens.")
    shortest: int = Field(default=6, ge=1, le=48, description="Shortest run of the rule `risk`, tokens.")
    longest: int = Field(default=12, ge=1, le=48, description="Longest run of the other rules, tokens.")
    entropy: float = Field(default=2.0, gt=0, le=20, description="Threshold of the rule `entropy`, nats.")
    risk: float | None = Field(
        default=None, gt=0, lt=1, description="Threshold of the rule `risk`; measured costs decide when left out."
    )

    @model_validator(mode="after")
    def _ordered(self) -> StopSettings:
        if self.shortest > self.longest:
            raise ValueError(f"shortest ({self.shortest}) must not be above longest ({self.longest})")
        return self


class SpanSettings(BaseModel):
    """Entropy Adaptive Decoding (arXiv 2502.06833), with hysteresis: two thresholds instead of one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window: int = Field(default=5, ge=1, le=256, description="Tokens in the rolling mean of the entropy.")
    escalate: float = Field(default=2.0, ge=0, le=20, description="Hand over when the mean reaches this, nats.")
    hand_back: float = Field(default=1.2, ge=0, le=20, description="Take back when the mean falls to this, nats.")
    min_stay: int = Field(default=10, ge=1, le=4096, description="Fewest tokens between two switches.")

    @model_validator(mode="after")
    def _ordered(self) -> SpanSettings:
        if self.hand_back > self.escalate:
            raise ValueError(f"hand_back ({self.hand_back:g}) must not be above escalate ({self.escalate:g})")
        return self


class ModeSettings(BaseModel):
    """The value of the HTTP extension key `updraft`, the `[edge.mode]` table and the SDK's `settings`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = Field(default=Mode.DRAFT, description="edge, cloud, draft or span.")
    stop: StopSettings = Field(default=StopSettings(), description="Stop rule of the mode `draft`.")
    span: SpanSettings = Field(default=SpanSettings(), description="Thresholds of the mode `span`.")
    local_only: bool = Field(default=False, description="Never open a connection for this request.")


def parse_settings(data: Any, defaults: ModeSettings | None = None) -> ModeSettings:
    """Settings from a decoded JSON object laid over `defaults`.

    Raises:
        UnknownName: the mode does not exist.
        InvalidRequest: another field is unknown or out of range.
    """
    base = (defaults or ModeSettings()).model_dump()
    if not isinstance(data, dict):
        raise InvalidRequest(f"updraft is a {type(data).__name__}; it must be an object.", param="updraft")
    if "mode" in data and data["mode"] not in list(Mode):
        known = ", ".join(Mode)
        raise UnknownName(f"There is no mode {data['mode']!r}; modes are {known}.", param="updraft.mode")
    for key, value in data.items():
        base[key] = {**base[key], **value} if isinstance(base.get(key), dict) and isinstance(value, dict) else value
    try:
        return ModeSettings.model_validate(base)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["updraft", *map(str, first["loc"])])
        raise InvalidRequest(f"{where}: {first['msg']}.", param=where) from error
