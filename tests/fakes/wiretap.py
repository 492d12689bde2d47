"""Watches a wire: a TCP relay that keeps every byte that goes to the cloud, and reads the token ids out of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Self

__all__ = ["Wiretap", "contains_tokens", "varints"]


class Wiretap:
    """Carries every connection to the target, and keeps what went up.

    Attributes:
        sent: all bytes from clients to the target, in order, connections one after the other.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._parts: list[bytearray] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def sent(self) -> bytes:
        return b"".join(self._parts)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        kept = bytearray()
        self._parts.append(kept)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            try:
                await asyncio.gather(_carry(reader, far_writer, kept), _carry(far_reader, writer, None))
            finally:
                far_writer.close()
        writer.close()
        self._tasks.discard(task)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray | None) -> None:
    while data := await reader.read(65_536):
        if kept is not None:
            kept += data
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def varints(tokens: Sequence[int]) -> bytes:
    """Token ids as Protocol Buffers write a packed list of them."""
    out = bytearray()
    for token in tokens:
        while token > 0x7F:
            out.append(token & 0x7F | 0x80)
            token >>= 7
        out.append(token)
    return bytes(out)


def contains_tokens(sent: bytes, tokens: Sequence[int], *, at_least: int) -> bool:
    """Whether `at_least` of these tokens went over the wire side by side."""
    runs = (tokens[start : start + at_least] for start in range(len(tokens) - at_least + 1))
    return any(varints(run) in sent for run in runs)
