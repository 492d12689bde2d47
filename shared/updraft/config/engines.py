"""Settings of single engines."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from updraft.config.base import Settings

__all__ = ["TorchSettings"]


class TorchSettings(Settings):
    """How torch computes a Hugging Face folder."""

    device: str = Field(
        default="cpu", pattern=r"^(cpu|cuda(:[0-9]{1,3})?)$", description="Where it is computed: cpu, cuda or cuda:N."
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        default=None, description="Type to compute in: float32, bfloat16 or float16; the files' own when left out."
    )
    expert_bits: Literal[4, 8] | None = Field(
        default=None, description="Bits of the routed experts' weights, 4 or 8; those of `dtype` when left out."
    )
    exact: bool | None = Field(
        default=None,
        description="Give a position the same bits whatever shares its pass, which losslessness rests on; on the CPU "
        "true when left out. Cannot be had on a GPU.",
    )

    @field_validator("expert_bits", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        """A variable or a flag gives text."""
        return int(value) if isinstance(value, str) and value.isdigit() else value
