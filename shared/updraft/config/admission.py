"""Settings of what the cloud lets in: how much, how fast, how long it may wait and stay."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from updraft.config.base import Seconds, Settings

__all__ = ["AdmissionSettings"]

Rate = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class AdmissionSettings(Settings):
    """What the cloud lets in. A client's token or certificate says what tenant it is; without either all are one."""

    max_streams: int = Field(
        default=2048,
        ge=1,
        le=1_000_000,
        description="Calls answered at once, also those that are about to be refused; more are refused unread.",
    )
    places: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Sessions served at once, the others wait for a place; twice the engine's sequences when left out.",
    )
    tenant_sessions: int | None = Field(
        default=None, ge=1, le=100_000, description="Sessions of one tenant open at once; no limit when left out."
    )
    sessions_per_minute: Rate | None = Field(
        default=None, description="Sessions that one tenant may open in a minute; no limit when left out."
    )
    tokens_per_second: Rate | None = Field(
        default=None,
        description="Tokens that one tenant may have computed in a second: those of its frames and those that the "
        "cloud writes for it; no limit when left out.",
    )
    token_burst: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Tokens that may come at once after a pause; ten seconds' worth when left out.",
    )
    slow_wait_s: Seconds = Field(
        default=5.0, description="A frame beyond tokens_per_second is held back so long at most; then it is refused."
    )
    queue_length: int = Field(
        default=64, ge=0, le=10_000, description="Sessions that may wait for a place; more are refused at once."
    )
    queue_wait_s: Seconds = Field(
        default=10.0,
        description="Longest wait for a place. A session that would wait longer, by what places took lately, is "
        "refused at once.",
    )
    frame_bytes: int = Field(
        default=1 << 20, ge=4096, le=64 << 20, description="Largest frame of a client, bytes; hidden states need most."
    )
    prompt_bytes: int = Field(
        default=1 << 20, ge=64, le=64 << 20, description="Largest opening frame, which holds the prompt, bytes."
    )
    prompt_tokens: int | None = Field(
        default=None, ge=1, le=1_048_576, description="Longest prompt, tokens; what the context holds when left out."
    )
    draft_tokens: int | None = Field(
        default=None, ge=1, le=8192, description="Longest draft, tokens; what the engine takes when left out."
    )
    top_logprobs: int = Field(default=20, ge=0, le=20, description="Most alternatives reported for each token.")
    open_timeout_s: Seconds = Field(
        default=10.0, description="A client that has opened a stream and said nothing for so long is turned away."
    )
    session_age_s: Seconds | None = Field(
        default=3600.0,
        description="Age at which a session is asked to open again, elsewhere if it can; a tenth more or less, so that "
        "not all do at once. No limit when empty.",
    )
    age_grace_s: Seconds = Field(default=30.0, description="Time that it gets for that before it is ended, seconds.")

    @model_validator(mode="after")
    def _whole(self) -> AdmissionSettings:
        if self.token_burst is not None and self.tokens_per_second is None:
            raise ValueError("token_burst needs tokens_per_second")
        if self.prompt_bytes > self.frame_bytes:
            raise ValueError(f"prompt_bytes ({self.prompt_bytes}) must not be above frame_bytes ({self.frame_bytes})")
        return self
