"""Settings of what one Solve may cost the cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from updraft.config.base import Seconds, Settings

__all__ = ["StrategySettings"]


class StrategySettings(Settings):
    """What one answer of the mode `solve` may take of the cloud, and who may judge it."""

    max_samples: int = Field(
        default=64, ge=1, le=1024, description="Most samples, particles or expansions of one answer."
    )
    max_tokens: int = Field(
        default=65_536, ge=1, le=1 << 20, description="Most tokens drawn for one answer, of all its branches together."
    )
    max_calls: int = Field(
        default=4096, ge=1, le=1 << 16, description="Most answers or steps that a verifier judges for one answer."
    )
    max_s: Seconds = Field(
        default=600.0, description="Longest work on one answer, seconds; it then stops with what it has."
    )
    verifiers: tuple[str, ...] | None = Field(
        default=None,
        description="Names of the verifiers that may be asked for; all that have what they need otherwise.",
    )
    reward_model: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Reward model that verifiers may ask: a known model, a GGUF file, a Hugging Face folder, or a JSON "
        "file that says how it is asked, as for `updraft verify --reward`.",
    )
    choice: Path | None = Field(
        default=None,
        description="What the strategy `auto` does where a request says nothing else: a JSON file, as `updraft compose "
        "fit` writes.",
    )
    execute_code: bool = Field(
        default=False, description="Programs in answers may be run, confined in a sandbox: for tests that judge them."
    )
    records: Path | None = Field(
        default=None, description="Folder with measured error rates of verifiers, as `updraft verify measure` writes."
    )

    @field_validator("verifiers", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """A variable or a flag gives the names as text: `number,regex`."""
        return [name.strip() for name in value.split(",")] if isinstance(value, str) and value else value
