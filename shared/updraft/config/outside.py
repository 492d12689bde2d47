"""Settings of what leaves the device: an endpoint that may be the cloud, what is kept, and what may be spent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from updraft.config.base import Seconds, Settings

__all__ = ["DetectorName", "EndpointSettings", "LimitSettings", "PriceSettings", "RulesSettings"]

DetectorName = Literal["keys", "cards", "emails", "phones", "ibans"]

Price = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**15)] | None


class EndpointSettings(Settings):
    """An OpenAI-compatible server as the cloud of the modes that exchange text: `cloud`, `route` and `reason`."""

    url: str | None = Field(
        default=None,
        description="Base URL with its version, such as https://api.example.org/v1; empty for none. These modes then "
        "use it in place of edge.cloud.",
    )
    model: str = Field(default="", max_length=512, description="Name of the model that the endpoint shall use.")
    api_key_env: str | None = Field(
        default=None,
        max_length=128,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the environment variable that holds the key; the key itself never stands in a file.",
    )
    api_key_header: str = Field(
        default="Authorization",
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="Header that carries the key: as `Bearer KEY` in Authorization, bare in any other.",
    )
    headers: tuple[str, ...] = Field(
        default=(), max_length=16, description='Further headers, each "Name: value"; they are no place for secrets.'
    )
    ca: Path | None = Field(
        default=None, description="PEM file of the authority that signed the endpoint's certificate."
    )
    connect_timeout_s: Seconds = Field(default=5.0, description="Longest wait for a connection, seconds.")
    reply_timeout_s: Seconds = Field(default=30.0, description="Longest wait for the next piece of text, seconds.")
    attempts: int = Field(
        default=2, ge=1, le=10, description="Attempts at one call as long as nothing of its answer has arrived."
    )
    retry_pause_s: Seconds = Field(
        default=0.5, description="Pause before the second attempt, seconds; it doubles, and Retry-After prolongs it."
    )
    breaker_failures: int = Field(
        default=3, ge=1, le=1000, description="Failures in a row after which the endpoint counts as away."
    )
    probe_interval_s: Seconds = Field(default=5.0, description="Pause between probes of one that is away, seconds.")
    continuation: Literal["auto", "continue", "prefill", "ask"] = Field(
        default="auto",
        description="How it is made to go on with an answer that the edge began. continue: continue_final_message "
        "(vLLM, SGLang); prefill: the assistant's message comes last (llama-server, Ollama); ask: a further message "
        "asks for it (any); auto: continue, and ask where that is refused.",
    )
    length_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens", description="Field that limits the answer; newer hosted models want the second."
    )

    @field_validator("url")
    @classmethod
    def _plain_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == -1 or not value.isprintable():
            raise ValueError("a URL is http:// or https:// with a host, such as https://api.example.org/v1")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("a URL must hold no user, password, query or fragment; name the key with api_key_env")
        return value.rstrip("/")

    @field_validator("headers", mode="before")
    @classmethod
    def _one_header(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) and value else value or ()

    @field_validator("headers")
    @classmethod
    def _well_formed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for line in value:
            if not re.fullmatch(r"[A-Za-z0-9-]{1,64}: [\x21-\x7e][\x20-\x7e]{0,1023}", line):
                raise ValueError("a header is written `Name: value`")
        return value


class RulesSettings(Settings):
    """What may never leave the device. These rules come before every mode and score."""

    keep_local: tuple[DetectorName, ...] = Field(
        default=("keys", "cards", "emails"),
        description="Detectors of what stays here: keys (API keys, tokens, passwords, private keys), cards, emails, "
        "phones, ibans.",
    )
    patterns: tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...] = Field(
        default=(), max_length=64, description="Regular expressions of what stays here, too."
    )
    action: Literal["local", "refuse"] = Field(
        default="local", description="local: the edge answers alone; refuse: the request fails."
    )

    @field_validator("patterns", mode="before")
    @classmethod
    def _one_pattern(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) and value else value or ()


class LimitSettings(Settings):
    """What may be spent in a day (UTC), all answers together. What is used up leaves the edge alone until midnight."""

    tokens_up: Count = Field(default=None, description="Most tokens sent a day.")
    tokens_down: Count = Field(default=None, description="Most tokens that the cloud writes a day.")
    bytes: Count = Field(default=None, description="Most bytes in both directions a day.")
    money: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = Field(
        default=None, description="Most money a day, in the price table's currency."
    )
    state: Path | None = Field(
        default=None,
        description="File that keeps the day's sums across restarts; updraft/spent.json in the user's state folder "
        "when left out.",
    )

    @property
    def any(self) -> bool:
        """Something is limited."""
        return any(value is not None for value in (self.tokens_up, self.tokens_down, self.bytes, self.money))


class PriceSettings(Settings):
    """What the cloud costs, for a million tokens."""

    currency: str = Field(default="USD", min_length=1, max_length=16, description="Name of the currency.")
    cloud_input: Price = Field(default=0.0, description="A million tokens sent to edge.cloud.")
    cloud_output: Price = Field(default=0.0, description="A million tokens that edge.cloud writes.")
    endpoint_input: Price = Field(default=0.0, description="A million prompt tokens of edge.endpoint.")
    endpoint_output: Price = Field(default=0.0, description="A million tokens that edge.endpoint writes.")
