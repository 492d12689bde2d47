"""An event loop on a thread of its own, so that the main thread can wait for a person and take Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

__all__ = ["BackgroundLoop"]

T = TypeVar("T")


class _Ended(Exception):
    """The iterator has no more items."""


class BackgroundLoop:
    """Runs coroutines for code that is not asynchronous; a context manager that ends what it entered."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="updraft-loop", daemon=True)
        self._entered: list[AbstractAsyncContextManager[Any]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for manager in reversed(self._entered):
            self.run(manager.__aexit__(kind, error, trace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine. An interrupt cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter an asynchronous context manager, which is left when this object is."""

        async def entering() -> T:
            return await manager.__aenter__()

        value = self.run(entering())
        self._entered.append(manager)
        return value

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """The items of an asynchronous iterator. Ending early closes it and waits until it is closed."""
        items: queue.SimpleQueue[T | BaseException] = queue.SimpleQueue()
        closed = threading.Event()

        async def pump() -> None:
            try:
                async for item in source:
                    items.put(item)
                items.put(_Ended())
            except BaseException as error:
                items.put(error)
                raise
            finally:
                with contextlib.suppress(Exception):
                    await _close(source)
                closed.set()

        future = asyncio.run_coroutine_threadsafe(pump(), self._loop)
        try:
            while True:
                item = items.get()
                if isinstance(item, _Ended):
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            future.cancel()
            closed.wait()


async def _close(source: AsyncIterator[Any]) -> None:
    closing = getattr(source, "aclose", None)
    if closing is not None:
        await closing()
