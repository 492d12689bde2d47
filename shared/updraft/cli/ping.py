"""`updraft ping`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from updraft.cli.options import ConfigOption, SetOption, overrides
from updraft.cli.reporting import examples, reported

if TYPE_CHECKING:
    from updraft.config import CloudSettings
    from updraft.config.operations import OperationsSettings

__all__ = ["register"]

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (where a server listens, not where this one does)


def register(app: typer.Typer) -> None:
    app.command("ping", epilog=examples("updraft ping", "updraft ping --set listen.port=7443 --timeout 1"))(ping)


@reported
def ping(
    timeout: Annotated[float, typer.Option(help="Longest wait for the answer, seconds.", min=0.1, max=60)] = 3.0,
    config: ConfigOption = None,
    setting: SetOption = None,
) -> None:
    """Ask the cloud service of this machine whether it takes sessions; exit code 1 if not.

    It is found by the same settings and variables that started it: at its operations listener where that is enabled,
    else by gRPC's health protocol. A container's health check is this verb; `updraft doctor` asks a cloud elsewhere.
    """
    from updraft.config import load_cloud_settings

    settings = load_cloud_settings(config, **overrides(setting))
    if settings.operations.enabled:
        where, ready = _ask_operations(settings.operations, timeout)
    else:
        where, ready = _ask_health(settings, timeout)
    typer.echo(f"{where} {'takes' if ready else 'does not take'} sessions")
    raise typer.Exit(0 if ready else 1)


def _ask_operations(settings: OperationsSettings, timeout: float) -> tuple[str, bool]:
    """Address and answer of `/health/ready`. Raises CloudUnavailable."""
    import ssl
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    from updraft.errors import CloudUnavailable
    from updraft.transport.address import format_address

    host = _ANYWHERE.get(settings.host, settings.host)
    connection = HTTPConnection(host, settings.port, timeout=timeout)
    if settings.tls_cert is not None:
        # This machine asks itself, and what it learns is no secret: whose certificate it is does not matter.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection(host, settings.port, timeout=timeout, context=context)
    where = format_address(host, settings.port)
    try:
        connection.request("GET", "/health/ready")
        return where, connection.getresponse().status == 200
    except (OSError, HTTPException) as error:
        raise CloudUnavailable(f"Nothing answers at {where}: {error}") from error
    finally:
        connection.close()


def _ask_health(settings: CloudSettings, timeout: float) -> tuple[str, bool]:
    """Address and answer of grpc.health.v1. Raises CloudUnavailable, ConfigError or MissingExtra."""
    from updraft.cli.extras import needs_extra
    from updraft.errors import CloudUnavailable, ConfigError
    from updraft.transport.address import format_address

    listen = settings.listen
    if listen.tls_cert is not None:
        raise ConfigError(
            "The cloud speaks TLS, which only clients with the right certificates can ask.",
            remedy="Set operations.enabled: its listener on this machine's own address needs none.",
        )
    with needs_extra("cloud"):
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc
    where = format_address(_ANYWHERE.get(listen.host, listen.host), listen.port)
    with grpc.insecure_channel(where) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service="updraft.v1.Collaboration"), timeout=timeout
            )
        except grpc.RpcError as error:
            raise CloudUnavailable(f"Nothing answers at {where}: {error.details()}") from error
    return where, answer.status == health_pb2.HealthCheckResponse.SERVING
