"""A TCP relay that behaves like a link: delay, bandwidth, silence and loss of connection, in user space.

Delay and bandwidth hold for each direction alone; all connections share a direction's bandwidth, as they would share a
link. A direction is a line, not a lock: bytes that follow each other travel together, so what is under way is bandwidth
times delay. asyncio's timers are up to about 1 ms late, so a round trip measures up to 2 ms longer than asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, Self

from updraft.errors import ConfigError

from .trace import Trace

__all__ = ["Constant", "Line", "Rate", "Relay", "Spoil", "Spoilt", "Trace"]

_CHUNK: Final = 65_536
_PACKET: Final = 1460
_LONGEST_QUEUE: Final = 16 * 1024 * 1024
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_LAST_WORDS_S: Final = 0.002  # a reset takes with it what the peer has not read


class Rate(Protocol):
    """A bandwidth over time; `Constant` and `Trace` are two."""

    def finish(self, start_s: float, bits: float) -> float:
        """When `bits` that start at `start_s` have passed; seconds since the link's start."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """The same bandwidth at all times."""

    bits_per_second: float

    def finish(self, start_s: float, bits: float) -> float:
        return start_s + bits / self.bits_per_second


@dataclass(frozen=True, slots=True)
class Spoilt:
    """What arrives in place of some bytes: `data`, after a pause, and then a reset if the connection is cut."""

    data: bytes
    pause_s: float = 0.0
    cut: bool = False


Spoil = Callable[[bool, bytes], Spoilt]  # the first is true for bytes on their way to the target


class Line:
    """One direction of the link. It only computes times, in seconds since the link's start; it never waits.

    Bytes leave one after the other at the line's rate (a token bucket without a burst) and arrive `delay_s` later.
    """

    def __init__(self, delay_s: float, rate: Rate | None = None) -> None:
        self.rate = rate
        self.delay_s = delay_s
        self._free_s = 0.0

    def arrival(self, size: int, now_s: float) -> float:
        """When `size` bytes that are handed in now arrive; never before what was handed in earlier."""
        self._free_s = max(now_s, self._free_s)
        if self.rate is not None:
            self._free_s = self.rate.finish(self._free_s, size * 8)
        return self._free_s + self.delay_s


class Relay:
    """Listens on a free loopback port and carries every connection to the target over the link.

    A new connection waits for one round trip before it carries anything, as a handshake over the link would.

    Args:
        delay_s: one way, seconds; half of the round-trip time.
        bandwidth_bps: bits per second in each direction; None for no limit.
        trace: bandwidth over time instead, Mbit/s; it starts when the relay does.
        spoil: asked what becomes of each piece of bytes just before it arrives; nothing happens to them without it.

    Raises:
        ConfigError: a negative delay, a bandwidth that is not above 0, or both kinds of bandwidth.
    """

    def __init__(
        self,
        target_host: str,
        target_port: int,
        *,
        delay_s: float = 0.0,
        bandwidth_bps: float | None = None,
        trace: Trace | None = None,
        spoil: Spoil | None = None,
    ) -> None:
        if not 0.0 <= delay_s < float("inf"):
            raise ConfigError(f"delay_s is {delay_s}; it must be at least 0.", remedy="Give seconds.")
        if bandwidth_bps is not None and not bandwidth_bps > 0.0:
            raise ConfigError(f"bandwidth_bps is {bandwidth_bps}; it must be above 0.", remedy="Give bits per second.")
        if bandwidth_bps is not None and trace is not None:
            raise ConfigError("Both bandwidth_bps and trace are given.", remedy="Give one of them.")
        rate: Rate | None = Constant(bandwidth_bps) if bandwidth_bps is not None else trace
        self.target = (target_host, target_port)
        self.delay_s = delay_s
        self.spoil = spoil
        self.up, self.down = Line(delay_s, rate), Line(delay_s, rate)
        self.bytes_up = 0  # delivered to the target
        self.bytes_down = 0  # delivered to clients
        self.connections = 0  # accepted, also those that ended or were refused
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._refusing = False
        self._open: dict[asyncio.Task[None], _Connection] = {}
        self._server: asyncio.Server | None = None
        self._started_s = 0.0

    @property
    def port(self) -> int:
        """The port that it listens on, on 127.0.0.1."""
        if self._server is None:
            raise RuntimeError("The relay is not running: use it in `async with`.")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def address(self) -> str:
        """`127.0.0.1:port`, to be given to a client in place of the target's."""
        return f"127.0.0.1:{self.port}"

    @property
    def active(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    def set_delay(self, delay_s: float) -> None:
        """Another delay, one way, seconds, for what is handed in from now on."""
        self.delay_s = self.up.delay_s = self.down.delay_s = delay_s

    def now_s(self) -> float:
        """Seconds since the relay's start."""
        return asyncio.get_running_loop().time() - self._started_s

    def cut(self) -> int:
        """Reset all connections (RST in both directions) and lose what is under way. The number of connections."""
        for connection in self._open.values():
            connection.reset()
        for task in self._open:
            task.cancel()
        return len(self._open)

    def stall(self) -> None:
        """Deliver nothing until `resume`; connections stay open and nobody is told."""
        self.flowing.clear()

    def resume(self) -> None:
        """Deliver again, first what has waited."""
        self.flowing.set()

    def refuse(self, refusing: bool) -> None:
        """Reset every new connection as soon as it arrives; open ones stay."""
        self._refusing = refusing

    async def __aenter__(self) -> Self:
        self._started_s = asyncio.get_running_loop().time()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._server is not None:
            self._server.close()
        tasks = list(self._open)
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = _Connection(self, reader, writer)
        if self._refusing:
            connection.reset()
            return
        task = asyncio.get_running_loop().create_task(connection.run())
        self._open[task] = connection
        task.add_done_callback(self._open.pop)

    def count_up(self, size: int) -> None:
        self.bytes_up += size

    def count_down(self, size: int) -> None:
        self.bytes_down += size


Queue = asyncio.Queue[tuple[float, bytes]]


class _Connection:
    """One client's connection and the one to the target that belongs to it."""

    def __init__(self, relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._relay = relay
        self._reader = reader
        self._writers = [writer]

    async def run(self) -> None:
        """Carry bytes until both directions have ended or either side is lost; a loss is passed on as a reset."""
        try:
            await asyncio.sleep(2 * self._relay.delay_s)
            await self._relay.flowing.wait()
            reader, writer = await asyncio.open_connection(*self._relay.target, limit=_CHUNK)
            self._writers.append(writer)
            async with asyncio.TaskGroup() as group:
                self._carry(group, self._reader, writer, self._relay.up, self._relay.count_up)
                self._carry(group, reader, self._writers[0], self._relay.down, self._relay.count_down)
            for end in self._writers:
                end.close()
                await end.wait_closed()
        except* OSError:
            self.reset()

    def reset(self) -> None:
        """Close both sides with an RST, dropping what they have not sent."""
        for writer in self._writers:
            with contextlib.suppress(OSError):  # the peer was faster
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    def _carry(
        self,
        group: asyncio.TaskGroup,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        line: Line,
        count: Callable[[int], None],
    ) -> None:
        # A limited line takes packets, so that a large write trickles out; an unlimited one takes all at once.
        piece = _CHUNK if line.rate is None else _PACKET
        queue: Queue = asyncio.Queue(_LONGEST_QUEUE // piece)
        group.create_task(self._take(reader, line, piece, queue))
        group.create_task(self._deliver(writer, queue, count))

    async def _take(self, reader: asyncio.StreamReader, line: Line, piece: int, queue: Queue) -> None:
        """Put what arrives on the line; an empty item says that the sender has ended."""
        while True:
            data = await reader.read(_CHUNK)
            for start in range(0, max(len(data), 1), piece):
                part = data[start : start + piece]
                await queue.put((line.arrival(len(part), self._relay.now_s()), part))
            if not data:
                return

    async def _deliver(self, writer: asyncio.StreamWriter, queue: Queue, count: Callable[[int], None]) -> None:
        while True:
            due_s, data = await queue.get()
            wait_s = due_s - self._relay.now_s()
            if wait_s > 0.0:
                await asyncio.sleep(wait_s)
            await self._relay.flowing.wait()
            if not data:
                writer.write_eof()
                return
            if self._relay.spoil is not None:
                data = await self._spoilt(self._relay.spoil(count == self._relay.count_up, data), writer)
            writer.write(data)
            count(len(data))
            await writer.drain()

    async def _spoilt(self, spoilt: Spoilt, writer: asyncio.StreamWriter) -> bytes:
        """The bytes to deliver. Raises ConnectionResetError, after the last of them, where the connection is cut."""
        if spoilt.pause_s > 0.0:
            await asyncio.sleep(spoilt.pause_s)
        if spoilt.cut:
            writer.write(spoilt.data)
            await writer.drain()
            await asyncio.sleep(_LAST_WORDS_S)
            raise ConnectionResetError("The connection is cut.")
        return spoilt.data
