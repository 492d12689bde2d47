from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import pytest

from updraft.cli.background import BackgroundLoop


async def count(to: int, closed: list[int]) -> AsyncIterator[int]:
    try:
        for number in range(to):
            yield number
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0.01)
        closed.append(to)


def test_items_come_in_order_and_the_source_is_closed() -> None:
    closed: list[int] = []
    with BackgroundLoop() as loop:
        assert list(loop.iterate(count(100, closed))) == list(range(100))
        assert closed == [100]


def test_ending_early_waits_until_the_source_is_closed() -> None:
    closed: list[int] = []
    with BackgroundLoop() as loop:
        items = loop.iterate(count(10**9, closed))
        assert [next(items), next(items)] == [0, 1]
        items.close()  # type: ignore[attr-defined]
        assert closed == [10**9]


def test_errors_reach_the_caller() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise ValueError("broken")

    with BackgroundLoop() as loop:
        items = loop.iterate(failing())
        assert next(items) == 1
        with pytest.raises(ValueError, match="broken"):
            next(items)


def test_contexts_are_left_in_reverse_order_on_the_loop() -> None:
    left: list[tuple[str, bool]] = []

    @contextlib.asynccontextmanager
    async def entered(name: str) -> AsyncIterator[str]:
        yield name
        left.append((name, threading.current_thread() is not threading.main_thread()))

    with BackgroundLoop() as loop:
        assert [loop.enter(entered("a")), loop.enter(entered("b"))] == ["a", "b"]
        assert left == []
    assert left == [("b", True), ("a", True)]


def test_contexts_are_left_when_the_body_fails() -> None:
    left: list[str] = []

    @contextlib.asynccontextmanager
    async def entered() -> AsyncIterator[None]:
        try:
            yield
        finally:
            left.append("left")

    with pytest.raises(ValueError, match="broken"), BackgroundLoop() as loop:
        loop.enter(entered())
        raise ValueError("broken")
    assert left == ["left"]
