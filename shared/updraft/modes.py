"""Modes and their settings: what a request, the configuration file and the HTTP extension key may say."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from updraft.errors import InvalidRequest, UnknownName

__all__ = ["ExitSettings", "Mode", "ModeSettings", "Origin", "SpanSettings", "StopSettings", "parse_settings"]


class Mode(StrEnum):
    """A named composition of drafter, stop rule, escalation policy and acceptance rule."""

    EDGE = "edge"  # the edge model alone
    CLOUD = "cloud"  # the cloud writes everything
    DRAFT = "draft"  # the edge drafts, the cloud verifies: the cloud's own text, losslessly
    SPAN = "span"  # the edge writes, the cloud takes over where entropy is high (EAD, arXiv 2502.06833)
    EXIT = "exit"  # confident tokens leave the model early, the cloud computes on from there (CE-CoLLM, 2411.02829)


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


class ExitSettings(BaseModel):
    """Early exit on the edge: when a token may leave, and what the cloud gets of those that may not (CE-CoLLM)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    criterion: Literal["probability", "entropy", "patience", "q"] = Field(
        default="probability",
        description="probability: the largest probability; entropy: exp(-entropy in nats), one over the number of "
        "likely tokens; patience: exits in a row that agree (PABEE, arXiv 2006.04152); q: cumulative probability of "
        "the trained exit heads (PALBERT, arXiv 2204.03276).",
    )
    threshold: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="A token leaves where `probability` or `entropy` is above this; with `calibrated`, where the "
        "probability of agreeing with the full model is, for every criterion. At 1 no token leaves.",
    )
    patience: int = Field(default=1, ge=1, le=64, description="Exits in a row that `patience` waits for.")
    q: float = Field(default=0.5, ge=0, le=1, description="Cumulative probability that `q` must be above.")
    calibrated: bool = Field(default=False, description="Compare calibrated probabilities; needs calibration.json.")
    hand_over: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Ask the cloud at once, without the edge's deeper layers, where the probability that one of its "
        "exits agrees with the full model is below this; 0 never.",
    )
    carry: Literal["hidden", "tokens"] = Field(
        default="hidden",
        description="hidden: hidden states go to the cloud, which computes the remaining layers only; tokens: token "
        "ids go, and the cloud computes all layers.",
    )
    dtype: Literal["float32", "float16", "int8"] | None = Field(
        default=None,
        description="Precision in which hidden states go up; the edge engine's own when left out (float16 if none).",
    )
    split: int | None = Field(
        default=None, ge=0, le=4095, description="Stage after which hidden states go up; the first when left out."
    )
    deepest: int | None = Field(
        default=None, ge=0, le=4095, description="Deepest stage that the edge computes; its deepest exit when left out."
    )


class ModeSettings(BaseModel):
    """The value of the HTTP extension key `updraft`, the `[edge.mode]` table and the SDK's `settings`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = Field(default=Mode.DRAFT, description="edge, cloud, draft, span or exit.")
    stop: StopSettings = Field(default=StopSettings(), description="Stop rule of the mode `draft`.")
    span: SpanSettings = Field(default=SpanSettings(), description="Thresholds of the mode `span`.")
    exit: ExitSettings = Field(
        default=ExitSettings(), description="Early exit: the mode `exit`, and how a staged edge model drafts."
    )
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
