"""Every setting of both tiers: its type, range, default and one-line meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from updraft.config.admission import AdmissionSettings
from updraft.config.base import Seconds, Settings
from updraft.config.engines import TorchSettings
from updraft.config.experts import ExpertSettings
from updraft.config.identity import IdentitySettings
from updraft.config.kv import KvSettings
from updraft.config.operations import OperationsSettings, TracingSettings
from updraft.config.outside import EndpointSettings, LimitSettings, PriceSettings, RulesSettings
from updraft.config.strategies import StrategySettings
from updraft.modes import ModeSettings

__all__ = [
    "CloudLinkSettings",
    "CloudSettings",
    "EdgeSettings",
    "ListenSettings",
    "LogFormat",
    "LogLevel",
    "Settings",
    "StagedSettings",
]

_LONGEST_PAUSE_S = 2.0  # a cloud that is back is found soon, however long it was away

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

CoreNumber = Annotated[int, Field(ge=0, le=4095)]


class ListenSettings(Settings):
    """Where a server listens and how it is protected."""

    host: str = Field(default="127.0.0.1", min_length=1, max_length=255, description="Address to listen on.")
    port: int = Field(ge=0, le=65_535, description="Port to listen on; 0 takes any free one.")
    tls_cert: Path | None = Field(default=None, description="PEM file with the server's certificate chain.")
    tls_key: Path | None = Field(default=None, description="PEM file with the server's private key.")
    client_ca: Path | None = Field(
        default=None, description="PEM file of the authority that client certificates must come from (mutual TLS)."
    )
    token: SecretStr | None = Field(default=None, description="Bearer token that every client must send.")

    @model_validator(mode="after")
    def _whole(self) -> ListenSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together: give both or neither")
        if self.client_ca is not None and self.tls_cert is None:
            raise ValueError("client_ca needs tls_cert and tls_key")
        return self


class CloudLinkSettings(Settings):
    """How the edge reaches the cloud."""

    address: str | None = Field(
        default="127.0.0.1:7080",
        description="host:port of the cloud service; empty for none. This default stands for none where edge.endpoint "
        "is the cloud.",
    )
    tls: bool = Field(default=False, description="Speak TLS to the cloud.")
    ca: Path | None = Field(default=None, description="PEM file of the authority that signed the cloud's certificate.")
    cert: Path | None = Field(default=None, description="PEM file with this device's certificate (mutual TLS).")
    key: Path | None = Field(default=None, description="PEM file with this device's private key (mutual TLS).")
    server_name: str | None = Field(
        default=None, description="Name expected in the cloud's certificate, where it is not the address."
    )
    token: SecretStr | None = Field(default=None, description="Bearer token sent to the cloud.")
    connect_timeout_s: Seconds = Field(default=2.0, description="Longest wait for a connection, seconds.")
    reply_timeout_s: Seconds = Field(default=20.0, description="Longest wait for one answer of the cloud, seconds.")
    reconnect_attempts: int = Field(default=4, ge=1, le=100, description="Attempts to open a lost session again.")
    reconnect_backoff_s: Seconds = Field(
        default=0.05, description="Pause before the second attempt, seconds; it doubles with each, up to 2 s."
    )
    overload_wait_s: Seconds = Field(
        default=5.0,
        description="Longest wait for an overloaded cloud that says when to come again, seconds; the edge goes on "
        "alone where it would be longer.",
    )
    breaker_failures: int = Field(
        default=3, ge=1, le=1000, description="Failures in a row after which the cloud counts as away."
    )
    probe_interval_s: Seconds = Field(default=1.0, description="Pause between probes of a cloud that is away, seconds.")
    keepalive_s: float = Field(
        default=20.0, ge=1, le=86_400, allow_inf_nan=False, description="Pause between keepalive pings, seconds."
    )

    def pause_s(self, tried: int) -> float:
        """Pause after so many attempts that failed, seconds."""
        return min(self.reconnect_backoff_s * 2.0**tried, max(self.reconnect_backoff_s, _LONGEST_PAUSE_S))

    @field_validator("address")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        if value is None or value.startswith("unix:"):
            return value
        host, _, port = value.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
            raise ValueError("an address is host:port with a port from 1 to 65535, such as 127.0.0.1:7080")
        return value

    @model_validator(mode="after")
    def _whole(self) -> CloudLinkSettings:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together: give both or neither")
        if not self.tls and (self.ca or self.cert or self.server_name):
            raise ValueError("ca, cert, key and server_name need tls = true")
        return self


class StagedSettings(Settings):
    """How a staged model is loaded. In mode `exit` both tiers need the same `split` and `carry` to be one function."""

    split: int | None = Field(
        default=None,
        ge=0,
        le=4095,
        description="Stage of a staged model after which hidden states are rounded to `carry`; none when left out.",
    )
    carry: Literal["float32", "float16", "int8"] = Field(
        default="float32", description="Precision of hidden states at the split: float32, float16 or int8."
    )
    last_stage: int | None = Field(
        default=None, ge=0, le=4095, description="Deepest stage of a staged model to load; all when left out."
    )
    rungs: tuple[Path, ...] | None = Field(
        default=None,
        description="Files of exits for a Hugging Face folder, whose stages are its layers; commas between them.",
    )

    @field_validator("rungs", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """A variable or a flag gives the files as text: `exit8.safetensors,exit16.safetensors`."""
        return [part.strip() for part in value.split(",")] if isinstance(value, str) and value else value


class TierSettings(Settings):
    """What both tiers have."""

    model: str = Field(min_length=1, max_length=4096, description="Name of a known model, or path of a GGUF file.")
    context: int = Field(default=2048, ge=64, le=1_048_576, description="Longest prompt and answer together, tokens.")
    sequences: int = Field(ge=1, le=256, description="Answers whose caches are kept at once.")
    threads: Annotated[int, Field(ge=1, le=512)] | None = Field(
        default=None, description="Threads of the engine; one for each core it may use when left out."
    )
    gpu_layers: int = Field(default=0, ge=0, le=999, description="Layers computed on the GPU; 999 for all.")
    batch_tokens: int = Field(
        default=512,
        ge=64,
        le=65_536,
        description="Most positions that one forward pass can hold, all answers together.",
    )
    staged: StagedSettings = Field(
        default=StagedSettings(), description="How a staged model (a folder with early exits) is loaded."
    )
    cores: tuple[CoreNumber, ...] | None = Field(
        default=None, description="Numbers of the processor cores to stay on; all when left out."
    )
    insecure: bool = Field(default=False, description="Allow listening beyond this machine without TLS and a token.")
    tracing: TracingSettings = Field(default=TracingSettings(), description="Where traces of requests go.")
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error.")
    log_format: LogFormat = Field(default="text", description="text, or json for one JSON object a line.")

    def engine_options(self) -> dict[str, Any]:
        """What `open_engine` takes of these settings."""
        names = {"context", "sequences", "threads", "batch_tokens", "gpu_layers"}
        return self.model_dump(include=names) | self.staged.model_dump(exclude_defaults=True)

    @field_validator("cores", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """A variable or a flag gives the numbers as text: `0,1`."""
        return [part.strip() for part in value.split(",")] if isinstance(value, str) and value else value

    @field_validator("cores")
    @classmethod
    def _distinct(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or len(set(value)) != len(value)):
            raise ValueError("give at least one core, and each only once")
        return value


class EdgeSettings(TierSettings):
    """The edge agent's settings."""

    model: str = Field(
        default="smollm2-q4_0",
        min_length=1,
        max_length=4096,
        description="Name of a known model, or path of a GGUF file.",
    )
    sequences: int = Field(default=8, ge=1, le=256, description="Answers whose caches are kept at once.")
    device: str = Field(
        default="auto", min_length=1, description="Device profile that gives defaults; auto detects the device."
    )
    mode: ModeSettings = Field(default=ModeSettings(), description="How requests are answered that do not say.")
    max_tokens: int = Field(default=512, ge=1, le=1_048_576, description="Longest answer if a request names none.")
    acceptance_head: Path | None = Field(
        default=None,
        description="File of the head that `stop.predictor = head` reads, written by `updraft train acceptance`.",
    )
    router: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Name or file of the router that the score `learned` reads, written by `updraft train router`; the "
        "one shipped for the pair when left out.",
    )
    verdict_log: Path | None = Field(
        default=None,
        description="File to append the cloud's verdicts to, for `updraft train router`: features of each judged token "
        "and whether it stood, never tokens or text. Nothing is logged when left out.",
    )
    lookup_tokens: int = Field(
        default=32_768,
        ge=256,
        le=10_000_000,
        description="Tokens of past answers that look-ups remember, at most; up to about 700 bytes each, where answers "
        "resemble each other.",
    )
    auto_history: str = Field(
        default="default",
        min_length=1,
        max_length=4096,
        description="File in which the mode `auto` keeps what it learned, numbers only; default: in the user's state "
        "folder; off: nowhere.",
    )
    local_only: bool = Field(default=False, description="Never open a connection to the cloud.")
    cloud: CloudLinkSettings = Field(default=CloudLinkSettings(), description="How the cloud is reached.")
    endpoint: EndpointSettings = Field(
        default=EndpointSettings(), description="An OpenAI-compatible server as the cloud of some modes."
    )
    rules: RulesSettings = Field(default=RulesSettings(), description="What may never leave the device.")
    limits: LimitSettings = Field(default=LimitSettings(), description="What may be spent in a day.")
    prices: PriceSettings = Field(default=PriceSettings(), description="What the cloud costs.")
    http: ListenSettings = Field(default=ListenSettings(port=7070), description="The OpenAI-compatible HTTP server.")
    grpc: ListenSettings = Field(default=ListenSettings(port=7071), description="The gRPC server that the SDK uses.")
    body_limit_bytes: int = Field(
        default=2_000_000, ge=1024, le=1_000_000_000, description="Largest HTTP request body, bytes."
    )
    max_concurrent: int = Field(
        default=64, ge=1, le=10_000, description="Requests in progress at once; more are turned away."
    )
    insecure: bool = Field(
        default=False,
        description="Allow listening beyond this machine without TLS and a token, and sending a token without TLS.",
    )

    @model_validator(mode="after")
    def _token_stays_secret(self) -> EdgeSettings:
        link = self.cloud
        if link.token is None or link.tls or self.insecure or not link.address or link.address.startswith("unix:"):
            return self
        from updraft.transport.address import is_loopback  # its package loads gRPC, which few settings need

        if not is_loopback(link.address.rpartition(":")[0]):
            raise ValueError(
                f"cloud.token would go to cloud.address, {link.address}, in clear text: "
                "set cloud.tls, or insecure to allow it"
            )
        return self

    @property
    def has_cloud(self) -> bool:
        """Whether a cloud service of our own is to be asked, be there one or not."""
        address, usual = self.cloud.address, CloudLinkSettings.model_fields["address"].default
        return self.endpoint.url is None or (address is not None and address != usual)

    @model_validator(mode="after")
    def _prompts_stay_private(self) -> EdgeSettings:
        if self.endpoint.url is None:
            return self
        if not self.endpoint.model:
            raise ValueError("endpoint.url needs endpoint.model, the name of the model that it shall use")
        parts = urlsplit(self.endpoint.url)
        from updraft.transport.address import is_loopback

        if parts.scheme != "https" and not self.insecure and not is_loopback(parts.hostname or ""):
            raise ValueError(
                f"prompts would go to endpoint.url, {self.endpoint.url}, in clear text: use https, or insecure to "
                "allow it"
            )
        return self


class CloudSettings(TierSettings):
    """The cloud service's settings."""

    model: str = Field(
        default="smollm2",
        min_length=1,
        max_length=4096,
        description="Name of a known model, or path of a GGUF file, a staged model's or a Hugging Face folder.",
    )
    engine: Literal["auto", "llama", "onnx", "torch"] = Field(
        default="auto",
        description="Library that computes: llama, onnx or torch; auto takes the one that the model is for.",
    )
    torch: TorchSettings = Field(default=TorchSettings(), description="How torch computes a Hugging Face folder.")
    experts: ExpertSettings = Field(
        default=ExpertSettings(), description="Routed experts that are not all on the device; computed by torch."
    )
    sequences: int = Field(default=16, ge=1, le=256, description="Sessions whose caches are kept at once.")
    listen: ListenSettings = Field(default=ListenSettings(port=7080), description="The gRPC server for edge agents.")
    identity: IdentitySettings = Field(default=IdentitySettings(), description="How the cloud knows who calls.")
    admission: AdmissionSettings = Field(
        default=AdmissionSettings(), description="What the cloud lets in, how fast, and how long it may stay."
    )
    strategies: StrategySettings = Field(
        default=StrategySettings(), description="What one answer of the mode `solve` may take, and who may judge it."
    )
    max_sessions: int = Field(default=64, ge=1, le=100_000, description="Sessions open at once; more are turned away.")
    pass_tokens: int = Field(
        default=256, ge=16, le=8192, description="Positions that the scheduler puts into one forward pass."
    )
    prefill_chunk: int = Field(
        default=48,
        ge=1,
        le=128,
        description="Positions of one prompt in a pass; long prompts leave room for other sessions' answers.",
    )
    write_timeout_s: Seconds = Field(default=10.0, description="Longest wait for a client that does not read, seconds.")
    idle_timeout_s: Seconds = Field(
        default=300.0, description="A session without a frame for so long is closed, seconds."
    )
    drain_s: Seconds = Field(default=10.0, description="Time that open sessions get at shutdown, seconds.")
    operations: OperationsSettings = Field(
        default=OperationsSettings(), description="Metrics and health over HTTP, and going away."
    )
    kv: KvSettings = Field(default=KvSettings(), description="The KV cache, and what becomes of idle sessions.")

    def engine_options(self) -> dict[str, Any]:
        options = super().engine_options() | self.torch.model_dump(exclude_defaults=True)
        return options if self.engine == "auto" else options | {"backend": self.engine}

    @model_validator(mode="after")
    def _fits(self) -> CloudSettings:
        if self.pass_tokens > self.batch_tokens:
            raise ValueError(f"pass_tokens ({self.pass_tokens}) must not be above batch_tokens ({self.batch_tokens})")
        return self
