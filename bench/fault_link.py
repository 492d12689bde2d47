"""A link that goes wrong on schedule: a proxy between the tiers strikes frames, a relay before it strikes bytes.

What is garbled is always found out, as it is under TLS: a frame that no hash of a log covers can no longer be decoded,
and bytes are garbled where HTTP/2 has its frame headers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from updraft.transport import server_options
from updraft.v1 import collaboration_pb2 as pb

from .fault_schedule import Fault, Way
from .relay import Relay, Spoilt

__all__ = ["FaultLink", "Frames", "Passed", "Strike", "garbled"]

if TYPE_CHECKING:  # gRPC's own classes are generic in their type stubs only
    Handler = grpc.GenericRpcHandler[Any, Any]
else:
    Handler = grpc.GenericRpcHandler

_SESSION: Final = "/updraft.v1.Collaboration/Session"
_MESSAGES: Final[dict[Way, type[pb.EdgeFrame | pb.CloudFrame]]] = {"up": pb.EdgeFrame, "down": pb.CloudFrame}
_UNCOVERED: Final = frozenset({"open", "take_over", "hidden", "score", "scored", "span", "verdict", "error"})
_UNREADABLE: Final = b"\x0f"  # a field of a wire type that does not exist
_LONGEST: Final = 4 << 20  # bytes of a frame
_EOF: Final[Any] = cast("Any", grpc.aio).EOF


@dataclass(frozen=True, slots=True)
class Passed:
    """A frame as one of the two tiers wrote it.

    Attributes:
        stream: number of the stream among the answer's, from 1.
        number: of the frame among the answer's in its direction, from 1.
        fault: what the link did to it.
    """

    seconds: float
    stream: int
    way: Way
    number: int
    frame: pb.EdgeFrame | pb.CloudFrame
    fault: Fault | None


@dataclass(slots=True)
class Strike:
    """What is to happen during one answer, and what the link saw."""

    faults: tuple[Fault, ...] = ()
    passed: list[Passed] = field(default_factory=list)
    struck: list[Fault] = field(default_factory=list)
    streams: int = 0
    started: float = field(default_factory=time.perf_counter)
    frames: dict[Way, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    pieces: dict[Way, int] = field(default_factory=lambda: {"up": 0, "down": 0})

    def frame(self, stream: int, way: Way, data: bytes) -> Fault | None:
        """Count a frame; what is to happen to it."""
        self.frames[way] += 1
        fault = self._due("frame", way, self.frames[way])
        frame = _MESSAGES[way].FromString(data)
        seconds = time.perf_counter() - self.started
        self.passed.append(Passed(seconds, stream, way, self.frames[way], frame, fault))
        return fault

    @property
    def quiet_since(self) -> float:
        """When the last frame passed (`time.perf_counter`)."""
        return self.started + (self.passed[-1].seconds if self.passed else 0.0)

    def piece(self, way: Way) -> Fault | None:
        """Count a piece of bytes; what is to happen to it."""
        self.pieces[way] += 1
        return self._due("bytes", way, self.pieces[way])

    def _due(self, level: str, way: Way, number: int) -> Fault | None:
        for fault in self.faults:
            if (fault.level, fault.way, fault.at) == (level, way, number):
                self.struck.append(fault)
                return fault
        return None


class _Cut(Exception):
    """The stream is to end as if the connection had been lost."""


@dataclass(slots=True)
class Frames:
    """One direction of one stream: what arrives for each frame that leaves.

    `others` holds frames of other streams in this direction, for those that are misdelivered.
    """

    way: Way
    others: deque[bytes]
    sent: int = 0
    fitting: bool = False
    held: list[bytes] = field(default_factory=list)
    seen: list[bytes] = field(default_factory=list)

    def after(self, data: bytes, fault: Fault | None) -> list[bytes]:
        """The frames to forward in place of one, in order. Raises _Cut where the stream ends."""
        kind = fault.kind if fault is not None else ""
        chance = random.Random(fault.size if fault is not None else 0)
        self.fitting |= fault is not None and fault.fit
        if kind == "cut":
            raise _Cut
        if kind == "swap":
            self.held.append(data)
            return []
        out = [self._one(data, kind, chance), *self._added(data, kind, chance), *self.held]
        self.held.clear()
        self.seen.append(data)
        self.others.append(data)
        return [self._numbered(frame) for frame in out if frame is not None]

    def _one(self, data: bytes, kind: str, chance: random.Random) -> bytes | None:
        match kind:
            case "drop":
                return None
            case "garble" | "truncate" if self._uncovered(data):
                return _UNREADABLE + data
            case "garble":
                return garbled(data, chance, chance.randrange(len(data)))
            case "truncate":
                return data[: chance.randrange(len(data))]
            case _:
                return data

    def _uncovered(self, data: bytes) -> bool:
        """Whether a frame holds what no hash of a log covers and the text depends on."""
        kind = _MESSAGES[self.way].FromString(data).WhichOneof("body")
        return kind in _UNCOVERED

    def _added(self, data: bytes, kind: str, chance: random.Random) -> list[bytes]:
        match kind:
            case "duplicate":
                return [data]
            case "replay":
                return [chance.choice(self.seen or [data])]
            case "foreign":
                return [chance.choice(list(self.others) or [data])]
            case _:
                return []

    def _numbered(self, data: bytes) -> bytes:
        """Counts what leaves; once faults are to fit, every frame carries the number that is due."""
        self.sent += 1
        if not self.fitting:
            return data
        try:
            frame = _MESSAGES[self.way].FromString(data)
        except DecodeError:  # garbled
            return data
        frame.sequence = self.sent
        return frame.SerializeToString()


@dataclass(slots=True)
class _Stream:
    """A call that is being forwarded; `strike` is None for calls that are left alone."""

    call: Any
    strike: Strike | None
    number: int = 0
    cut: bool = False


class FaultLink:
    """A link to one target; an async context manager.

    Edges connect to `address`. Without a strike it only forwards.

    Attributes:
        strike: what is to happen now; every answer gets its own.
    """

    def __init__(self, target: str) -> None:
        self.strike = Strike()
        self.address = ""
        self._target = target
        self._others: dict[Way, deque[bytes]] = {"up": deque(maxlen=64), "down": deque(maxlen=64)}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._target, options=server_options(max_message_bytes=_LONGEST))
        self._stack.push_async_callback(self._channel.close, None)
        server = grpc.aio.server(options=server_options(max_message_bytes=_LONGEST))
        server.add_generic_rpc_handlers((_Forward(self._carry),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._stack.push_async_callback(server.stop, 0)
        relay = await self._stack.enter_async_context(Relay("127.0.0.1", port, spoil=self._spoil))
        self.address = relay.address
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._stack.aclose()

    async def _carry(self, method: str, requests: AsyncIterator[bytes], context: Any) -> None:
        """Forward one call, of whatever method, in both directions."""
        call = cast("Any", self._channel).stream_stream(method)(metadata=context.invocation_metadata())
        stream = _Stream(call, self.strike if method == _SESSION else None)
        if stream.strike is not None:
            stream.strike.streams = stream.number = stream.strike.streams + 1
        upward = asyncio.create_task(self._up(requests, stream))
        try:
            await self._down(stream, context)
            code, details = await call.code(), await call.details()
        except (_Cut, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not stream.cut:
                raise  # the edge has gone
            code, details = grpc.StatusCode.UNAVAILABLE, "The link was cut."
        finally:
            upward.cancel()
            call.cancel()
        if code is not grpc.StatusCode.OK:
            await context.abort(code, details)

    async def _down(self, stream: _Stream, context: Any) -> None:
        frames = Frames("down", self._others["down"])
        with contextlib.suppress(grpc.aio.AioRpcError):  # its status is passed on
            while (data := await stream.call.read()) is not _EOF:
                for frame in await self._struck(frames, stream, data):
                    await context.write(frame)

    async def _up(self, requests: AsyncIterator[bytes], stream: _Stream) -> None:
        frames = Frames("up", self._others["up"])
        try:
            async for data in requests:
                for frame in await self._struck(frames, stream, data):
                    await stream.call.write(frame)
            await stream.call.done_writing()
        except _Cut:
            stream.cut = True
            stream.call.cancel()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the other direction knows why

    async def _struck(self, frames: Frames, stream: _Stream, data: bytes) -> list[bytes]:
        fault = stream.strike.frame(stream.number, frames.way, data) if stream.strike is not None else None
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.size / 1e3)
        return frames.after(data, fault)

    def _spoil(self, up: bool, data: bytes) -> Spoilt:
        """What becomes of bytes on the connection."""
        fault = self.strike.piece("up" if up else "down")
        if fault is None:
            return Spoilt(data)
        chance = random.Random(fault.size)
        match fault.kind:
            case "cut":
                return Spoilt(b"", cut=True)
            case "truncate":
                return Spoilt(data[: chance.randrange(len(data))], cut=True)
            case "garble":
                return Spoilt(garbled(data, chance, 0))
            case _:
                return Spoilt(data, pause_s=fault.size / 1e3)


class _Forward(Handler):
    """Takes calls of every method as streams of bytes, which a call of any of the four kinds is."""

    def __init__(self, carry: Any) -> None:
        self._carry = carry

    def service(self, handler_call_details: Any) -> Any:
        return grpc.stream_stream_rpc_method_handler(partial(self._carry, handler_call_details.method))


def garbled(data: bytes, chance: random.Random, start: int) -> bytes:
    """With up to eight neighbouring bytes replaced by random ones."""
    length = min(len(data) - start, chance.randint(1, 8))
    return data[:start] + chance.randbytes(length) + data[start + length :]
