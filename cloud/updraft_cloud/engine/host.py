"""The front end's view of its engine: in this process, or in a process of its own that is watched and started again."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Protocol

from updraft.config import CloudSettings
from updraft.engine import Engine, open_engine
from updraft_cloud.context.budget import sequences_within
from updraft_cloud.engine.worker import Worker, WorkerOptions
from updraft_cloud.experts.factory import make_experts
from updraft_cloud.messages import Description, FromEngine, ToEngine

__all__ = ["EngineHost", "Listener", "LocalHost", "load_engine", "worker_options"]

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who hears of the engine; called in the front end's event loop."""

    def heard(self, message: FromEngine) -> None:
        """An answer or a measurement has come."""
        ...

    def lost(self) -> None:
        """The engine has died, with all that it held. What was begun must be begun again."""
        ...


class EngineHost(Protocol):
    """Runs an engine for the front end."""

    @property
    def description(self) -> Description:
        """What it serves; known once it has started, and the same after it was started again."""
        ...

    @property
    def restarts(self) -> int:
        """How often the engine died and was started again."""
        ...

    async def start(self, listener: Listener) -> None:
        """Load the engine. Raises what loading it raises, such as ModelError."""
        ...

    async def ready(self) -> None:
        """Wait until it takes messages: at once, except while it is started again."""
        ...

    def send(self, message: ToEngine) -> None:
        """Hand a message on. One that is sent while the engine is away is lost, as its sessions are.

        Raises RequestTooLarge.
        """
        ...

    async def stop(self) -> None:
        """End the engine. Safe to call twice."""
        ...


class LocalHost:
    """An engine in a thread of this process: for an engine that is given, as tests and programs of one process do."""

    restarts = 0

    def __init__(self, engine: Engine, options: WorkerOptions) -> None:
        self._engine = engine
        self._options = options
        self._measuring: asyncio.Task[None] | None = None

    @property
    def description(self) -> Description:
        return self.worker.description

    async def start(self, listener: Listener) -> None:
        send = _threadsafe(asyncio.get_running_loop(), listener.heard)
        self.worker = Worker(self._engine, os.getpid(), self._options, send)
        self.worker.start()
        self._measuring = asyncio.create_task(self._measure())

    async def ready(self) -> None:
        return

    def send(self, message: ToEngine) -> None:
        self.worker.take(message)

    async def stop(self) -> None:
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.to_thread(self.worker.stop)

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.worker.measure()


def load_engine(settings: CloudSettings) -> Engine:
    """The engine of these settings. Raises ModelError, ConfigError, MissingExtra."""
    options = settings.engine_options() | {"sequences": sequences_within(settings)}
    experts = make_experts(settings.experts)
    return open_engine(settings.model, **options if experts is None else options | {"experts": experts})


def worker_options(settings: CloudSettings) -> WorkerOptions:
    return WorkerOptions(settings.pass_tokens, settings.prefill_chunk, settings.kv, settings.strategies)


def _threadsafe(loop: asyncio.AbstractEventLoop, heard: Callable[[FromEngine], None]) -> Callable[[FromEngine], None]:
    def send(message: FromEngine) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(heard, message)

    return send
