"""What the front end and the engine's process say to each other, as typed MessagePack with bounds.

Nothing is decoded that is not one of these types; arrays are float32 matrices and nothing else.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec
import numpy as np

from updraft.engine.base import FloatRows, ModelInfo
from updraft.engine.loop import PassRecord
from updraft.errors import InvalidRequest, ProtocolViolation, RequestTooLarge
from updraft_cloud.context import ContextStatistics
from updraft_cloud.frames import Cost, Open, Reply, Work
from updraft_cloud.solve_frames import SolveOrder, SolveReply

__all__ = [
    "MAX_BYTES",
    "Begin",
    "Deliver",
    "Description",
    "Emitted",
    "Finish",
    "FromEngine",
    "Measured",
    "NotReady",
    "Ready",
    "Solve",
    "ToEngine",
    "decode_from_engine",
    "decode_to_engine",
    "encode",
]

MAX_BYTES: Final = 16 << 20
_MAX_VALUES: Final = 4 << 20
_FLOATS: Final = 1  # extension code of a float32 matrix
_SHAPE: Final = struct.Struct("<II")


class _Message(msgspec.Struct, frozen=True, tag=True):
    pass


class Begin(_Message, frozen=True):
    """A session begins. `session` is its number, which the front end never gives twice."""

    session: int
    tenant: str
    opening: Open


class Deliver(_Message, frozen=True):
    """A frame for a session, with the time of its arrival and by when an answer is of use (`time.monotonic`)."""

    session: int
    work: Work
    arrived: float
    deadline: float | None = None


class Solve(_Message, frozen=True):
    """An answer is to be worked on. `session` is a number like that of a session, and `Finish` ends it."""

    session: int
    tenant: str
    order: SolveOrder


class Finish(_Message, frozen=True):
    """A session or a Solve is over, or its edge has gone."""

    session: int


ToEngine = Begin | Deliver | Solve | Finish


class Description(_Message, frozen=True):
    """What the engine's process serves.

    Attributes:
        boundaries: numbers of layers after which hidden states may enter.
        process: its id.
    """

    info: ModelInfo
    context: int
    max_run: int
    sequences: int
    boundaries: tuple[int, ...]
    process: int


class Ready(_Message, frozen=True):
    """The engine is loaded and takes sessions."""

    description: Description


class NotReady(_Message, frozen=True):
    """The engine could not be loaded, with the error that says why."""

    code: str
    message: str
    remedy: str


class Emitted(_Message, frozen=True):
    """Answers of sessions, in the order in which they were made."""

    replies: list[tuple[int, Reply | SolveReply]]


class Measured(_Message, frozen=True):
    """What the engine did since the last of these, sent every second; also the sign that its loop goes round."""

    passes: list[PassRecord]
    context: ContextStatistics
    sessions: int
    cost: Cost | None = None
    experts: dict[str, float] | None = None


FromEngine = Ready | NotReady | Emitted | Measured


def _pack_array(value: Any) -> msgspec.msgpack.Ext:
    if not isinstance(value, np.ndarray) or value.dtype != np.float32 or value.ndim != 2:
        raise TypeError(f"{type(value).__name__} is no part of a message")
    return msgspec.msgpack.Ext(_FLOATS, _SHAPE.pack(*value.shape) + np.ascontiguousarray(value).tobytes())


def _unpack_array(code: int, data: memoryview) -> FloatRows:
    if code != _FLOATS or len(data) < _SHAPE.size:
        raise ValueError(f"extension {code} of {len(data)} bytes")
    rows, columns = _SHAPE.unpack_from(data)
    if rows * columns > _MAX_VALUES or len(data) != _SHAPE.size + 4 * rows * columns:
        raise ValueError(f"{len(data)} bytes for a matrix of {rows} x {columns}")
    matrix: FloatRows = np.frombuffer(data, np.float32, offset=_SHAPE.size).reshape(rows, columns)
    return matrix


_encoder = msgspec.msgpack.Encoder(enc_hook=_pack_array)
_to_engine = msgspec.msgpack.Decoder(ToEngine, ext_hook=_unpack_array)
_from_engine = msgspec.msgpack.Decoder(FromEngine, ext_hook=_unpack_array)


def encode(message: ToEngine | FromEngine) -> bytes:
    """Raises RequestTooLarge above MAX_BYTES."""
    data = _encoder.encode(message)
    if len(data) > MAX_BYTES:
        raise RequestTooLarge(f"A message of {len(data)} bytes to the engine; at most {MAX_BYTES} are sent.")
    return data


def decode_to_engine(data: bytes) -> ToEngine:
    """Raises ProtocolViolation for anything that is not such a message."""
    return _decoded(_to_engine, data)  # type: ignore[no-any-return]


def decode_from_engine(data: bytes) -> FromEngine:
    """Raises ProtocolViolation for anything that is not such a message."""
    return _decoded(_from_engine, data)  # type: ignore[no-any-return]


def _decoded(decoder: msgspec.msgpack.Decoder[Any], data: bytes) -> Any:
    if len(data) > MAX_BYTES:
        raise ProtocolViolation(f"A message of {len(data)} bytes; at most {MAX_BYTES} are read.")
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError, InvalidRequest) as error:
        raise ProtocolViolation(f"A message between the two processes is damaged: {error}.") from error
