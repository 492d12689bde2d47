"""Runs a request's generations at the same time and hands on what they commit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, cast

from starlette.types import Receive

from updraft.errors import Cancelled, EngineFailure
from updraft.generation import Completion, GenerationEvent, GenerationRequest

__all__ = ["MAX_AT_ONCE", "Choices", "Follower", "Step", "while_connected"]

MAX_AT_ONCE = 8  # of one request; the choices of the largest single prompt
_QUEUED = 64

Step = tuple[int, GenerationEvent]
"""What a choice, named by its index, did next."""


class Follower(Protocol):
    """What answers are had from."""

    def follow(self, request: GenerationRequest) -> AsyncIterator[GenerationEvent]:
        """As `AgentView.follow`."""
        ...


class Choices:
    """All choices of one request, running; leaving the context closes every generation that is still open.

    At most `MAX_AT_ONCE` run at a time. They stop to wait when the reader lags far behind.
    """

    def __init__(self, generator: Follower, requests: Sequence[GenerationRequest]) -> None:
        self._generator = generator
        self._requests = requests
        self._queue: asyncio.Queue[Step | Exception] = asyncio.Queue(_QUEUED)
        self._running = asyncio.Semaphore(MAX_AT_ONCE)
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: Exception | None = None
        self.unfinished = len(requests)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._run(index)) for index in range(len(self._requests))]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, at: TracebackType | None) -> None:
        await _cancel(self._tasks)

    async def take(self, timeout: float | None = None) -> list[Step]:
        """The steps since the last call, at least one; none if `timeout` seconds pass without one.

        Raises:
            Exception: what a choice failed with, once the steps before it have been taken.
        """
        steps: list[Step] = []
        if self._failure is None:
            await self._gather(steps, timeout)
        if self._failure is not None and not steps:
            raise self._failure
        return steps

    async def _gather(self, steps: list[Step], timeout: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                self._keep(steps, await self._queue.get())
        while self._failure is None and not self._queue.empty():
            self._keep(steps, self._queue.get_nowait())

    def _keep(self, steps: list[Step], item: Step | Exception) -> None:
        if isinstance(item, Exception):
            self._failure = item
            return
        steps.append(item)
        self.unfinished -= isinstance(item[1], Completion)

    async def _run(self, index: int) -> None:
        try:
            async with self._running:
                await self._follow(index)
        except Exception as error:
            await self._queue.put(error)

    async def _follow(self, index: int) -> None:
        events = cast(AsyncGenerator[GenerationEvent, None], self._generator.follow(self._requests[index]))
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, Completion):
                    if event.finish_reason == "cancelled":
                        raise Cancelled("The agent stopped.")
                    await self._queue.put((index, event))
                    return
                await self._queue.put((index, event))
        raise EngineFailure("The generation ended without a completion.")


async def while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end, or cancel it as soon as the client closes the connection."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        await _cancel([task, gone])


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
