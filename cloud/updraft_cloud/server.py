"""The cloud's front end: gRPC server, health, an engine in a process of its own, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Self

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from updraft import failpoints
from updraft.config import CloudSettings
from updraft.engine import Engine
from updraft.models import resolve
from updraft.models.cache_size import cache_bytes
from updraft.process import pin_to_cores, stop_signal
from updraft.tracing import Tracer, open_tracer
from updraft.transport import Guard, add_port, check_port_free, require_safe_listen, server_credentials, server_options
from updraft.transport.address import format_address
from updraft.v1 import collaboration_pb2
from updraft.v1.collaboration_pb2_grpc import add_CollaborationServicer_to_server
from updraft_cloud.engine.host import EngineHost, LocalHost, worker_options
from updraft_cloud.engine.process_host import ProcessHost
from updraft_cloud.identity import open_guard
from updraft_cloud.messages import Description
from updraft_cloud.operations.http import OperationsServer, require_safe_operations
from updraft_cloud.operations.metrics import CloudMetrics
from updraft_cloud.operations.readiness import Readiness
from updraft_cloud.service import CollaborationService, ServiceLimits

__all__ = ["CloudServer", "serve"]

log = logging.getLogger(__name__)

SERVICE_NAME = collaboration_pb2.DESCRIPTOR.services_by_name["Collaboration"].full_name
SPARE_CALLS = 64  # beyond max_streams: for health, and for the refusals that say when to come again


class CloudServer:
    """The service in this process. Use it as an async context manager, or `start` and `stop` it.

    Args:
        settings: the cloud tier's settings; port 0 takes any free port.
        engine: an engine to use in place of `settings.model`; the server shuts it down.
        tracer: what traces sessions, in place of one of these settings; the server closes it.

    Attributes:
        address: host:port for edges, once it has started.
        operations: the listener for operators, with its own address.
    """

    def __init__(self, settings: CloudSettings, *, engine: Engine | None = None, tracer: Tracer | None = None) -> None:
        self.settings = settings
        self.address = ""
        self.metrics = CloudMetrics()
        self.readiness = Readiness()
        self.readiness.tell(self.metrics.ready)
        self.operations = OperationsServer(settings.operations, self.metrics, self.readiness)
        self._given_engine = engine
        self._tracer = open_tracer(settings.tracing, "updraft-cloud") if tracer is None else tracer
        self._tellings: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load the model, in a process of its own unless the engine was given, and listen.

        Raises:
            InsecureListen, AddressInUse, ConfigError: before the model is loaded.
            ModelError: the model cannot be used.
        """
        settings, listen = self.settings, self.settings.listen
        require_safe_listen(listen, insecure=settings.insecure, tokens=settings.identity.tokens)
        require_safe_operations(settings.operations, insecure=settings.insecure)
        check_port_free(listen.host, listen.port)
        server_credentials(listen)
        guard = open_guard(settings)
        given = self._given_engine
        self.host: EngineHost = ProcessHost(settings) if given is None else LocalHost(given, worker_options(settings))
        self.service = CollaborationService(
            self.host,
            ServiceLimits(
                admission=settings.admission,
                max_sessions=settings.max_sessions,
                write_timeout_s=settings.write_timeout_s,
                idle_timeout_s=settings.idle_timeout_s,
                strategies=settings.strategies,
            ),
            metrics=self.metrics,
            readiness=self.readiness,
            tracer=self._tracer,
        )
        async with contextlib.AsyncExitStack() as opened:
            self.operations.start()
            opened.push_async_callback(self.operations.stop)
            await self.host.start(self.service)
            opened.push_async_callback(self.host.stop)
            await self._listen(guard)
            opened.pop_all()
        if given is None:
            self.metrics.engine.allocated(await asyncio.to_thread(_cache_bytes, settings, self.host.description))
        self.metrics.serves(self.host.description.info.name)
        self.readiness.clear("loading")

    async def _listen(self, guard: Guard) -> None:
        settings, listen = self.settings, self.settings.listen
        self._server = grpc.aio.server(
            options=server_options(max_message_bytes=settings.admission.frame_bytes),
            interceptors=(guard,),
            maximum_concurrent_rpcs=settings.admission.max_streams + SPARE_CALLS,
        )
        add_CollaborationServicer_to_server(self.service, self._server)
        self._health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        port = add_port(self._server, listen)
        self.address = format_address(listen.host, port)
        await self._server.start()
        self.readiness.tell(self._tell_health)
        log.info("the cloud serves %s on %s", self.host.description.info.name, self.address)

    async def stop(self) -> None:
        """Say so and let it be noticed, let the open sessions go elsewhere or end, and free the model."""
        self.readiness.hold("draining")
        if self.operations.address:
            await asyncio.sleep(self.settings.operations.drain_notice_s)
        await self.service.drain(self.settings.drain_s)
        await self._server.stop(1.0)
        await self.host.stop()
        await self.operations.stop()
        await asyncio.to_thread(self._tracer.close)

    def _tell_health(self, ready: bool) -> None:
        """The same over gRPC, for the service and for all of this server."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", SERVICE_NAME):
            telling = asyncio.create_task(self._health.set(name, status))
            self._tellings.add(telling)
            telling.add_done_callback(self._tellings.discard)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()


async def serve(settings: CloudSettings, *, ready: Callable[[CloudServer], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called once requests are taken."""
    failpoints.arm_from_environment()
    pin_to_cores(settings.cores)  # for the engine's process, too, which inherits it
    stopped = stop_signal()
    async with CloudServer(settings) as server:
        if ready is not None:
            ready(server)
        await stopped.wait()


def _cache_bytes(settings: CloudSettings, served: Description) -> int:
    return cache_bytes(resolve(settings.model), served.context, served.sequences, dtype=settings.torch.dtype)
