"""A real gRPC server on loopback over a scripted agent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager

from grpc import aio
from pydantic import SecretStr

from tests.fakes.generator import FakeAgent
from updraft.modes import ModeSettings
from updraft.transport import Authenticator, Guard, server_options
from updraft_edge.grpc_service import AgentService, add_agent_service

__all__ = ["BackgroundServer", "eventually", "serving"]


@asynccontextmanager
async def serving(
    agent: FakeAgent,
    *,
    token: str | None = None,
    defaults: ModeSettings | None = None,
    write_timeout_s: float = 5.0,
    port: int = 0,
) -> AsyncIterator[str]:
    """Serves the agent; yields its address."""
    interceptors = [Guard(Authenticator(token=SecretStr(token) if token else None))]
    server = aio.server(interceptors=interceptors, options=server_options())
    add_agent_service(AgentService(agent, defaults=defaults, write_timeout_s=write_timeout_s), server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(None)


async def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait until the condition holds; fail if it does not in time."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


class BackgroundServer:
    """The same in a thread of its own, for clients that block."""

    def __init__(self, agent: FakeAgent, *, token: str | None = None) -> None:
        self._listening: Future[str] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(agent, token)))
        self._thread.start()
        self.address = self._listening.result(timeout=10)

    async def _serve(self, agent: FakeAgent, token: str | None) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        async with serving(agent, token=token) as address:
            self._listening.set_result(address)
            await self._stopped.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(timeout=10)
