"""The edge process: agent, HTTP server and gRPC server in one event loop, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Self

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from updraft.config import EdgeSettings, ListenSettings
from updraft.errors import AddressInUse
from updraft.generation import AgentView
from updraft.process import pin_to_cores, stop_signal
from updraft.transport import (
    Authenticator,
    Guard,
    add_port,
    check_port_free,
    require_safe_listen,
    server_credentials,
    server_options,
)
from updraft.transport.address import format_address
from updraft.transport.http import HttpServer
from updraft_edge.agent import Agent
from updraft_edge.grpc_service import SERVICE, AgentService, add_agent_service
from updraft_edge.http import create_app
from updraft_edge.metrics import EdgeMetrics

__all__ = ["EdgeServer", "serve"]

log = logging.getLogger(__name__)


class EdgeServer:
    """An agent with its servers, in this process. Use it as an async context manager, or `start` and `stop` it.

    Args:
        settings: the edge tier's settings; port 0 takes any free port.
        agent: an agent to use in place of one of these settings; it stays open when the server stops.
        grace_s: time that running answers get at the end, seconds.

    Attributes:
        http_address, grpc_address: host:port as bound, after `start`.
    """

    def __init__(self, settings: EdgeSettings, *, agent: AgentView | None = None, grace_s: int = 10) -> None:
        self.settings = settings
        self.http_address = ""
        self.grpc_address = ""
        self._given_agent = agent
        self._grace_s = grace_s
        self._opened = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Load the model and listen.

        Raises:
            InsecureListen, AddressInUse, ConfigError: before the model is loaded.
            ModelError: the model cannot be used.
        """
        _check_listen(self.settings)
        async with contextlib.AsyncExitStack() as opened:
            agent, metrics = await self._open_agent(opened)
            servers: list[HttpServer | _GrpcServer] = []
            opened.push_async_callback(_stop_together, servers)
            servers.append(self._start_http(agent, metrics))
            servers.append(await self._start_grpc(agent))
            self._opened = opened.pop_all()
        log.info("the agent listens: http://%s (OpenAI-compatible), gRPC %s", self.http_address, self.grpc_address)

    async def stop(self) -> None:
        """Take no new requests, give running answers their time, then close the agent."""
        await self._opened.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    async def _open_agent(self, opened: contextlib.AsyncExitStack) -> tuple[AgentView, EdgeMetrics | None]:
        if self._given_agent is not None:
            return self._given_agent, None
        agent = await opened.enter_async_context(Agent(self.settings))
        return agent, agent.metrics

    def _start_http(self, agent: AgentView, metrics: EdgeMetrics | None) -> HttpServer:
        settings, listen = self.settings, self.settings.http
        app = create_app(
            agent,
            body_limit_bytes=settings.body_limit_bytes,
            max_concurrent=settings.max_concurrent,
            token=listen.token.get_secret_value() if listen.token else None,
            metrics=metrics,
            defaults=settings.mode,
        )
        server = HttpServer(app, listen, self._grace_s)
        self.http_address = format_address(listen.host, server.port)
        return server

    async def _start_grpc(self, agent: AgentView) -> _GrpcServer:
        settings, listen = self.settings, self.settings.grpc
        service = AgentService(agent, defaults=settings.mode)
        server = _GrpcServer(service, listen, settings.max_concurrent, self._grace_s)
        self.grpc_address = format_address(listen.host, server.port)
        await server.start()
        return server


class _GrpcServer:
    """The service with health, bound at once."""

    def __init__(self, service: AgentService, listen: ListenSettings, max_concurrent: int, grace_s: int) -> None:
        self._grace_s = grace_s
        self._server = aio.server(
            interceptors=(Guard(Authenticator(token=listen.token)),),
            options=server_options(),
            maximum_concurrent_rpcs=max_concurrent,
        )
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        add_agent_service(service, self._server)
        self.port = add_port(self._server, listen)

    async def start(self) -> None:
        await self._server.start()
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._grace_s)


async def _stop_together(servers: Sequence[HttpServer | _GrpcServer]) -> None:
    await asyncio.gather(*(server.stop() for server in servers))


def _check_listen(settings: EdgeSettings) -> None:
    """Find out before a model is loaded what would keep the servers from listening."""
    http, grpc = settings.http, settings.grpc
    for listen in (http, grpc):
        require_safe_listen(listen, insecure=settings.insecure)
        check_port_free(listen.host, listen.port)
        server_credentials(listen)
    if http.port == grpc.port != 0 and http.host == grpc.host:
        raise AddressInUse(f"HTTP and gRPC are both to listen on {format_address(http.host, http.port)}.")


async def serve(settings: EdgeSettings, *, ready: Callable[[], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called once requests are taken. Raises as `EdgeServer.start`."""
    pin_to_cores(settings.cores)
    stopped = stop_signal()
    async with EdgeServer(settings):
        if ready is not None:
            ready()
        await stopped.wait()
        log.info("stopping: running answers get their time")
