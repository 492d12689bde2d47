"""Settings of experts offloaded: how many bytes of them are on the device, and who decides which."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, field_validator, model_validator

from updraft.config.base import Settings

__all__ = ["ExpertSettings", "budget_bytes"]

_UNITS: Final = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_AMOUNT: Final = re.compile(r"(?P<number>\d{1,15}(\.\d{1,6})?)\s*(?P<unit>%|B|KiB|MiB|GiB|TiB|)")


class ExpertSettings(Settings):
    """Routed experts of a mixture-of-experts model that torch computes, where not all are on the device."""

    budget: str | None = Field(
        default=None,
        max_length=32,
        description="Most that routed experts take on the device: bytes such as 2GiB, or a share of all such as 25%; "
        "all stay there when left out.",
    )
    policy: str = Field(
        default="draft",
        min_length=1,
        max_length=64,
        description="Which experts are on the device: a policy of `updraft experts simulate`.",
    )
    gate: Annotated[float, Field(ge=0.05, le=1.0, allow_inf_nan=False)] = Field(
        default=0.5, description="Chance of being needed from which on an expert is brought before it is asked for."
    )
    predictor: Path | None = Field(
        default=None, description="File of the predictor that trained policies read; see `updraft experts train`."
    )
    on_host: bool = Field(
        default=False,
        description="Compute an absent expert on the host where measured costs say that it is sooner. On a GPU the "
        "bits then depend on where an expert was computed.",
    )
    group: bool = Field(
        default=False,
        description="Where not all that waits fits into one pass, compute together what is likely to need the same "
        "experts; for policies that read tokens, such as draft.",
    )
    placement: Path | None = Field(
        default=None,
        description="File of `updraft experts place`: all experts stay on several devices as it says, in place of a "
        "budget.",
    )
    devices: tuple[Annotated[str, Field(pattern=r"^(cpu|cuda:[0-9]{1,3})$")], ...] | None = Field(
        default=None,
        max_length=1024,
        description="Devices of the placement in the order of its numbers, such as cuda:0,cuda:1; from the first GPU "
        "on when left out, and on the CPU parts of it.",
    )
    pinned_bytes: int = Field(
        default=1 << 38,
        ge=1,
        le=1 << 50,
        description="Most bytes of page-locked host memory for experts of a GPU; beyond it they are read from the "
        "checkpoint as they are needed.",
    )
    link_bytes_per_s: Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False)] | None = Field(
        default=None, description="On the CPU, throttle copies of experts to this rate, as a device's link; for tests."
    )

    @field_validator("devices", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """A variable or a flag gives the names as text: `cuda:0,cuda:1`."""
        return [part.strip() for part in value.split(",")] if isinstance(value, str) and value else value

    @model_validator(mode="after")
    def _fits(self) -> ExpertSettings:
        if self.placement is not None and self.budget is not None:
            raise ValueError("placement and budget exclude each other: placed experts all stay on their devices")
        if self.group and self.budget is None:
            raise ValueError("group needs a budget: without one all experts are there, whoever shares a pass")
        if self.devices is not None and self.placement is None:
            raise ValueError("devices are those of a placement, and there is none")
        return self

    @field_validator("budget")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None:
            budget_bytes(value, 1 << 50)
        return value


def budget_bytes(text: str, whole: int) -> int:
    """A budget such as `2GiB`, `500000` or `25%` as bytes; `whole` is what all experts take.

    Raises ValueError where it cannot be read.
    """
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no amount: write bytes such as 2GiB, 512MiB or 1000000, or a share such as 25%")
    number, unit = float(found["number"]), found["unit"]
    if unit == "%":
        if not 0.0 < number <= 100.0:
            raise ValueError(f"{text!r} is no share: write more than 0% and at most 100%")
        return int(whole * number / 100.0)
    return int(number * _UNITS[unit])
