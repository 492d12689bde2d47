"""Settings of what operators see of a tier: the listener for metrics and health, and traces."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from updraft.config.base import Settings

__all__ = ["OperationsSettings", "TracingSettings"]


class OperationsSettings(Settings):
    """The HTTP listener for `/metrics`, `/health/live` and `/health/ready`, and how the cloud goes away."""

    enabled: bool = Field(default=False, description="Serve metrics and health over HTTP.")
    host: str = Field(default="127.0.0.1", min_length=1, max_length=255, description="Address to listen on.")
    port: int = Field(default=7081, ge=0, le=65_535, description="Port to listen on; 0 takes any free one.")
    tls_cert: Path | None = Field(default=None, description="PEM file with the listener's certificate chain.")
    tls_key: Path | None = Field(default=None, description="PEM file with the listener's private key.")
    client_ca: Path | None = Field(
        default=None, description="PEM file of the authority that scrapers' certificates must come from (mutual TLS)."
    )
    token: SecretStr | None = Field(
        default=None, description="Bearer token that /metrics asks for; the health checks need none."
    )
    drain_notice_s: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="At shutdown, time between saying that the cloud is not ready and taking no more sessions, "
        "seconds: as long as load balancers need to see it.",
    )

    @model_validator(mode="after")
    def _whole(self) -> OperationsSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together: give both or neither")
        if self.client_ca is not None and self.tls_cert is None:
            raise ValueError("client_ca needs tls_cert and tls_key")
        return self


class TracingSettings(Settings):
    """Where traces go. They hold names, counts and times, never prompts or answers."""

    endpoint: str | None = Field(
        default=None,
        max_length=2048,
        description="OpenTelemetry collector (OTLP over gRPC), such as http://127.0.0.1:4317; when left out, what "
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT name; without any, nothing is traced.",
    )
    ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share of requests that are traced, 0 to 1, where the caller has not decided it already.",
    )

    @field_validator("endpoint")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError("endpoint is a URL such as http://127.0.0.1:4317, or https://... with TLS")
        return value
