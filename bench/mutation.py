"""Bytes and messages that nobody should send: random ones, and real ones that are damaged."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

__all__ = ["FLOATS", "INTEGERS", "damaged", "random_message"]

INTEGERS: Final = (0, 1, 2, 3, 5, 20, 62, 63, 64, 65, 255, 256, 511, 512, 513, 2**31 - 1, 2**31, 2**32 - 1)
FLOATS: Final = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-45, 1e38, float("inf"), float("-inf"), float("nan"))
_LENGTHS: Final = (0, 1, 1, 2, 3, 16, 63, 64, 65, 600)
_DEEPEST: Final = 4

AnyMessage = TypeVar("AnyMessage", bound=Message)


def damaged(data: bytes, chance: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """One to three damages: bits and bytes changed, stretches cut, doubled, overwritten, or taken from others."""
    for _ in range(chance.randint(1, 3)):
        data = chance.choice(_DAMAGES)(bytearray(data), chance, others)
    return data


def random_message(kind: type[AnyMessage], chance: random.Random, depth: int = 0) -> AnyMessage:
    """A message with some of its fields set, to values at and beyond the edges of what is allowed."""
    message = kind()
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.6:
            continue
        if field.is_repeated:
            _fill(message, field, chance, depth)
        elif field.message_type is None:
            setattr(message, field.name, _value(field, chance))
        elif depth < _DEEPEST:
            child = getattr(message, field.name)
            child.CopyFrom(random_message(type(child), chance, depth + 1))
    return message


def _fill(message: Message, field: Any, chance: random.Random, depth: int) -> None:
    values, count = getattr(message, field.name), chance.choice(_LENGTHS)
    if field.message_type is None:
        values.extend(_value(field, chance) for _ in range(count))
    elif field.message_type.GetOptions().map_entry:
        for _ in range(min(count, 20)):
            entry = field.message_type.fields_by_name
            values[_value(entry["key"], chance)] = _value(entry["value"], chance)
    elif depth < _DEEPEST:
        for _ in range(min(count, 20)):
            child = values.add()
            child.CopyFrom(random_message(type(child), chance, depth + 1))


def _value(field: Any, chance: random.Random) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return chance.randbytes(chance.choice(_LENGTHS))
        case FieldDescriptor.CPPTYPE_STRING:
            return chance.choice(("", "letters", "x" * 300, "\u00e9\u0000"))
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return chance.choice((*FLOATS, chance.random()))
        case FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.CPPTYPE_ENUM:
            return chance.randrange(6)
        case FieldDescriptor.CPPTYPE_INT32 | FieldDescriptor.CPPTYPE_INT64:
            return chance.choice((*INTEGERS[:-2], chance.randrange(64), -1))
        case _:
            return chance.choice((*INTEGERS, chance.randrange(64)))


def _flip(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _overwrite(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    start = chance.randint(0, len(data))
    end = min(len(data), start + chance.randint(1, 8))
    data[start:end] = chance.choice((b"\xff", b"\x00", chance.randbytes(1))) * (end - start)
    return bytes(data)


def _cut(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    start = chance.randint(0, len(data))
    del data[start : start + chance.choice((1, 4, len(data)))]
    return bytes(data)


def _double(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    start = chance.randint(0, len(data))
    data[start:start] = data[start : start + chance.randint(1, 64)] * chance.choice((1, 1, 20))
    return bytes(data)


def _insert(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    start = chance.randint(0, len(data))
    data[start:start] = chance.randbytes(chance.randint(1, 8))
    return bytes(data)


def _splice(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytes:
    other = chance.choice(others) if others else b""
    return bytes(data[: chance.randint(0, len(data))]) + other[chance.randint(0, len(other)) :]


_DAMAGES: Final = (_flip, _flip, _overwrite, _cut, _double, _insert, _splice)
