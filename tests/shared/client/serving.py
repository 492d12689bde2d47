"""A real gRPC server on loopback over a scripted agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from grpc import aio
from pydantic import SecretStr

from tests.fakes.generator import FakeAgent
from updraft.modes import ModeSettings
from updraft.transport import BearerInterceptor, server_options
from updraft_edge.grpc_service import AgentService, add_agent_service

__all__ = ["eventually", "serving"]


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
    interceptors = [BearerInterceptor(SecretStr(token))] if token else []
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
