"""An HTTP server in the running event loop, for the tiers; needs the extra of one of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from updraft.transport.listen import Listen, check_port_free

__all__ = ["HttpServer", "bind"]


class HttpServer(uvicorn.Server):
    """Uvicorn in a task of the running loop, on a socket that is bound at once; signals are left alone."""

    def __init__(self, app: Starlette, listen: Listen, grace_s: int) -> None:
        listener = bind(listen)
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                lifespan="off",
                log_config=None,
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=grace_s,
                ws="none",
                ssl_certfile=listen.tls_cert,
                ssl_keyfile=str(listen.tls_key) if listen.tls_key else None,
                ssl_ca_certs=str(listen.client_ca) if listen.client_ca else None,
                ssl_cert_reqs=ssl.CERT_REQUIRED if listen.client_ca else ssl.CERT_NONE,
            )
        )
        self.port: int = listener.getsockname()[1]
        self._task = asyncio.create_task(self.serve([listener]))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def stop(self) -> None:
        self.should_exit = True
        await self._task
        # Answers that outlived the grace have been cancelled; they still need the agent to end.
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=1.0)


def bind(listen: Listen) -> socket.socket:
    """A listening socket. Raises AddressInUse or ConfigError."""
    check_port_free(listen.host, listen.port)
    host = listen.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, listen.port), family=family, backlog=128)
    # Connections inherit it. asyncio would set it on sockets that name their protocol, which this one does not, and
    # every answer on a kept connection would wait 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
