"""`updraft serve edge|cloud`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from updraft.cli.extras import needs_extra
from updraft.cli.options import (
    CloudOption,
    ConfigOption,
    DeviceOption,
    LocalOnlyOption,
    ModelOption,
    ModeOption,
    SetOption,
    overrides,
)
from updraft.cli.reporting import examples, reported, stderr

if TYPE_CHECKING:
    from updraft.config import ListenSettings, SettingSource

__all__ = ["register"]

log = logging.getLogger(__name__)

Context = Annotated[int | None, typer.Option(help="Longest prompt and answer together, tokens.")]
Sequences = Annotated[int | None, typer.Option(help="Answers whose caches are kept at once.")]
Threads = Annotated[int | None, typer.Option(help="Threads of the engine.")]
GpuLayers = Annotated[int | None, typer.Option(help="Layers computed on the GPU; 999 for all.")]
EngineName = Annotated[str | None, typer.Option(metavar="NAME", help="auto, llama, onnx or torch.")]
TorchDevice = Annotated[str | None, typer.Option(metavar="NAME", help="Where torch computes: cpu, cuda or cuda:N.")]
Dtype = Annotated[str | None, typer.Option(metavar="NAME", help="torch computes in float32, bfloat16 or float16.")]
ExpertBudget = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Most that routed experts take on the device, such as 2GiB or 25%.")
]
ExpertPolicy = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which experts are there; see `updraft experts simulate`.")
]
ExpertGroup = Annotated[
    bool | None,
    typer.Option("--expert-group/--no-expert-group", help="Share passes by the experts that runs are likely to need."),
]
ExpertPlacement = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Experts on several devices as `updraft experts place` says.")
]
ExpertBits = Annotated[int | None, typer.Option(metavar="4|8", help="torch holds routed experts in so many bits.")]
Cores = Annotated[str | None, typer.Option(metavar="0,1,...", help="Processor cores to stay on.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 takes any free one.")]
TlsCert = Annotated[Path | None, typer.Option(help="PEM file with the server's certificate chain.")]
TlsKey = Annotated[Path | None, typer.Option(help="PEM file with the server's private key.")]
ClientCa = Annotated[Path | None, typer.Option(help="PEM file of the authority of client certificates.")]
TokensFile = Annotated[Path | None, typer.Option(metavar="FILE", help="File of bearer tokens; see `updraft tokens`.")]
Insecure = Annotated[
    bool | None, typer.Option("--insecure", help="Allow listening beyond this machine without TLS and a token.")
]
LogLevel = Annotated[str | None, typer.Option(help="debug, info, warning or error.")]
LogFormat = Annotated[str | None, typer.Option(help="text or json.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Start a tier and keep it running until SIGINT or SIGTERM.")
    group.command(
        "edge", epilog=examples("updraft serve edge", "updraft serve edge --cloud 10.0.0.5:7080 --mode span")
    )(edge)
    group.command(
        "cloud",
        epilog=examples(
            "updraft serve cloud --model smollm2",
            "updraft serve cloud --model ./Qwen3-30B-A3B --engine torch --expert-bits 8",
            "updraft serve cloud --model ./Mixtral-8x7B --engine torch --torch-device cuda --expert-budget 25%",
            "updraft serve cloud --host 0.0.0.0 --tls-cert c.pem --tls-key k.pem --client-ca ca.pem --tokens tokens",
        ),
    )(cloud)
    app.add_typer(group, name="serve", epilog=examples("updraft serve edge"))


@reported
def edge(
    model: ModelOption = None,
    device: DeviceOption = None,
    mode: ModeOption = None,
    cloud: CloudOption = None,
    local_only: LocalOnlyOption = None,
    host: Host = None,
    port: Annotated[int | None, typer.Option(help="Port of the HTTP server; 0 takes any free one.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port of the gRPC server; 0 takes any free one.")] = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    insecure: Insecure = None,
    context: Context = None,
    sequences: Sequences = None,
    threads: Threads = None,
    gpu_layers: GpuLayers = None,
    cores: Cores = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
    config: ConfigOption = None,
    setting: SetOption = None,
) -> None:
    """Start the edge agent: OpenAI-compatible HTTP and gRPC on this machine.

    Tokens that clients must send are read from the configuration file or from UPDRAFT_EDGE__HTTP__TOKEN and
    UPDRAFT_EDGE__GRPC__TOKEN, never from a flag, which others could see.
    """
    from updraft.config import describe_sources, load_edge_settings
    from updraft.logging_setup import configure_logging

    flags = overrides(
        setting,
        model=model,
        device=device,
        mode__mode=mode,
        cloud__address=cloud,
        local_only=local_only,
        http__host=host,
        grpc__host=host,
        http__port=port,
        grpc__port=grpc_port,
        http__tls_cert=tls_cert,
        grpc__tls_cert=tls_cert,
        http__tls_key=tls_key,
        grpc__tls_key=tls_key,
        insecure=insecure,
        context=context,
        sequences=sequences,
        threads=threads,
        gpu_layers=gpu_layers,
        cores=cores,
        log_level=log_level,
        log_format=log_format,
    )
    settings = load_edge_settings(config, **flags)
    with needs_extra("edge"):
        from updraft_edge.server import serve
    configure_logging(settings.log_level, settings.log_format)
    rows, listeners = describe_sources("edge", config, **flags), {"HTTP": settings.http, "gRPC": settings.grpc}
    _announce(rows, listeners, as_json=settings.log_format == "json")
    asyncio.run(serve(settings))


@reported
def cloud(
    model: ModelOption = None,
    host: Host = None,
    port: Port = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    client_ca: ClientCa = None,
    tokens: TokensFile = None,
    insecure: Insecure = None,
    context: Context = None,
    sequences: Sequences = None,
    max_sessions: Annotated[int | None, typer.Option(help="Sessions open at once.")] = None,
    threads: Threads = None,
    gpu_layers: GpuLayers = None,
    engine: EngineName = None,
    torch_device: TorchDevice = None,
    dtype: Dtype = None,
    expert_bits: ExpertBits = None,
    expert_budget: ExpertBudget = None,
    expert_policy: ExpertPolicy = None,
    expert_group: ExpertGroup = None,
    expert_placement: ExpertPlacement = None,
    cores: Cores = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
    config: ConfigOption = None,
    setting: SetOption = None,
) -> None:
    """Start the cloud service that edge agents work with.

    Edges send a token of the file --tokens. A single token for all is read from the configuration file or from
    UPDRAFT_CLOUD__LISTEN__TOKEN, never from a flag, which others could see.
    """
    from updraft.config import describe_sources, load_cloud_settings
    from updraft.logging_setup import configure_logging

    flags = overrides(
        setting,
        model=model,
        listen__host=host,
        listen__port=port,
        listen__tls_cert=tls_cert,
        listen__tls_key=tls_key,
        listen__client_ca=client_ca,
        identity__tokens=tokens,
        insecure=insecure,
        context=context,
        sequences=sequences,
        max_sessions=max_sessions,
        threads=threads,
        gpu_layers=gpu_layers,
        engine=engine,
        torch__device=torch_device,
        torch__dtype=dtype,
        torch__expert_bits=expert_bits,
        experts__budget=expert_budget,
        experts__policy=expert_policy,
        experts__group=expert_group,
        experts__placement=expert_placement,
        cores=cores,
        log_level=log_level,
        log_format=log_format,
    )
    settings = load_cloud_settings(config, **flags)
    with needs_extra("cloud"):
        from updraft_cloud.server import serve
    configure_logging(settings.log_level, settings.log_format)
    rows = describe_sources("cloud", config, **flags)
    _announce(rows, {"gRPC": settings.listen}, as_json=settings.log_format == "json")
    asyncio.run(serve(settings))


def _announce(rows: Sequence[SettingSource], listeners: Mapping[str, ListenSettings], *, as_json: bool) -> None:
    """Say which settings differ from their defaults, and where the tier will listen."""
    changed = [row for row in rows if row.value != row.default]
    addresses = {name: f"{listen.host}:{listen.port}" for name, listen in listeners.items()}
    if as_json:
        settings = {row.key: row.value for row in changed}
        log.info("starting", extra={"settings": settings, "addresses": addresses})
        return
    from updraft.cli.tables import settings_table

    console = stderr()
    if changed:
        console.print(settings_table(changed))
    for name, address in addresses.items():
        console.print(f"{name} on {address}", markup=False)
