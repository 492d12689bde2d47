"""Both tiers in one process, over real gRPC on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from updraft.config import CloudLinkSettings, CloudSettings, EdgeSettings, ListenSettings, RulesSettings
from updraft.engine.base import Engine
from updraft.generation import Completion, GenerationRequest, TokenEvent
from updraft_cloud.engine.host import LocalHost
from updraft_cloud.server import CloudServer
from updraft_edge.agent import Agent

__all__ = ["complete", "idle", "running_agent", "running_cloud", "until"]


@contextlib.asynccontextmanager
async def running_cloud(engine: Engine, **settings: Any) -> AsyncIterator[CloudServer]:
    """A cloud service with this engine on a free port."""
    settings.setdefault("listen", ListenSettings(port=0))
    settings.setdefault("drain_s", 0.1)
    async with CloudServer(CloudSettings(**settings), engine=engine) as server:
        yield server


def idle(cloud: CloudServer) -> bool:
    """Neither a stream nor a session of the engine is left in a cloud with a given engine."""
    assert isinstance(cloud.host, LocalHost)
    return cloud.service.active == 0 and cloud.host.worker.context.statistics.sessions == 0


@contextlib.asynccontextmanager
async def running_agent(
    engine: Engine, cloud: str | None, *, link: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Agent]:
    """An agent with this engine, linked to a cloud address (None: local only).

    Nothing is kept here unless `rules` are given: random letters look like e-mail addresses and keys now and then.
    """
    settings.setdefault("rules", RulesSettings(keep_local=()))
    link_settings = CloudLinkSettings(**{"address": cloud, "reconnect_backoff_s": 0.01, **(link or {})})
    edge = EdgeSettings(cloud=link_settings, local_only=cloud is None, **settings)
    async with Agent(edge, engine=engine) as agent:
        yield agent


async def complete(agent: Agent, request: GenerationRequest) -> tuple[list[TokenEvent], Completion]:
    """All events of an answer, and its completion."""
    events: list[TokenEvent] = []
    async for item in agent.generate(request):
        if isinstance(item, Completion):
            return events, item
        events.append(item)
    raise AssertionError("no completion")


async def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Wait for something that happens soon, such as a sequence being freed."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
