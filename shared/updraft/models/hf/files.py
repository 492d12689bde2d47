"""Files of a Hugging Face folder: plain ones inside it, JSON of a sane size, and safetensors headers.

A safetensors file (https://huggingface.co/docs/safetensors) is a 64-bit length, as many bytes of JSON that name each
tensor's type, shape and place, and the tensors. Every number in it is held against the file before anything is read.
"""

from __future__ import annotations

import json
import os
import re
import stat
import struct
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from updraft.errors import BadModelFile, ModelNotFound

__all__ = ["ITEM_BYTES", "TensorPlace", "plain_file", "read_header", "read_object", "safe_name"]

ITEM_BYTES = {"F32": 4, "BF16": 2, "F16": 2}

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}", re.ASCII)
_MAX_JSON_BYTES = 64 << 20
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_MAX_DIMENSIONS = 8
_MAX_DIMENSION = 1 << 40
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where a tensor lies; `start` and `size` are bytes in the file, `kind` a key of `ITEM_BYTES`."""

    file: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    start: int
    size: int


def safe_name(name: object) -> bool:
    """Whether a file name stays in its folder: no separator, no dot in front."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def plain_file(path: Path) -> os.stat_result:
    """The facts of a plain file; links could lead out of the folder, pipes and devices could block.

    Raises:
        ModelNotFound: nothing is there, or it cannot be looked at.
        BadModelFile: something else is.
    """
    try:
        facts = path.lstat()
    except FileNotFoundError:
        raise ModelNotFound(f"there is no {path.name} in {path.parent}") from None
    except OSError as error:
        raise ModelNotFound(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(facts.st_mode):
        raise BadModelFile(
            f"{path} is not a plain file (links are not followed)",
            remedy="Copy the model into a folder of its own, with `cp -rL` where it consists of links.",
        )
    return facts


def read_object(path: Path, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """A JSON object from a plain file; `default` where there is no file.

    Raises:
        ModelNotFound: no such file and no default.
        BadModelFile: not a JSON object, or of absurd size.
    """
    if default is not None and not os.path.lexists(path):
        return default
    if (size := plain_file(path).st_size) > _MAX_JSON_BYTES:
        raise BadModelFile(f"{path} has {size} bytes; {_MAX_JSON_BYTES} are allowed")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadModelFile(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise BadModelFile(f"{path} is not a JSON object")
    return value


def read_header(path: Path) -> list[TensorPlace]:
    """The tensors of a safetensors file in the order of their places.

    Raises:
        ModelNotFound: no such file.
        BadModelFile: not a safetensors file, or a place in it that does not fit the file or another.
    """
    size = plain_file(path).st_size
    with path.open("rb") as file:
        start = file.read(_LENGTH.size)
        length = _LENGTH.unpack(start)[0] if len(start) == _LENGTH.size else -1
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - _LENGTH.size):
            _refuse(path, f"its header would have {length} bytes; the file has {size}")
        text = file.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadModelFile(f"{path} is not a usable safetensors file: its header cannot be read: {error}") from None
    if not isinstance(header, dict):
        _refuse(path, "its header is not a JSON object")
    begin = _LENGTH.size + length
    places = [_place(path, name, facts, begin) for name, facts in header.items() if name != "__metadata__"]
    places.sort(key=lambda place: (place.start, place.size))
    _check_room(path, places, begin, size)
    return places


def _place(path: Path, name: str, facts: Any, begin: int) -> TensorPlace:
    if not isinstance(facts, dict):
        _refuse(path, f"tensor {name!r} is not described by an object")
    kind, shape, offsets = facts.get("dtype"), facts.get("shape"), facts.get("data_offsets")
    if not isinstance(kind, str) or kind not in ITEM_BYTES:
        _refuse(path, f"tensor {name!r} is of the type {kind!r}; supported are {', '.join(ITEM_BYTES)}")
    if not _whole_numbers(shape) or len(shape) > _MAX_DIMENSIONS or not all(n <= _MAX_DIMENSION for n in shape):
        _refuse(path, f"tensor {name!r} has the shape {shape}")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        _refuse(path, f"tensor {name!r} has the place {offsets}")
    size = prod(shape) * ITEM_BYTES[kind]
    if offsets[1] - offsets[0] != size:
        _refuse(path, f"tensor {name!r} of the shape {tuple(shape)} has {offsets[1] - offsets[0]} bytes, not {size}")
    return TensorPlace(path, name, kind, tuple(shape), begin + offsets[0], size)


def _check_room(path: Path, places: list[TensorPlace], begin: int, size: int) -> None:
    for place in places:
        if place.start < begin or place.start + place.size > size:
            _refuse(
                path,
                f"tensor {place.name!r} ends at byte {place.start + place.size}, but the file has {size} bytes "
                "(cut off while it was fetched?)",
            )
    for place, following in pairwise(places):
        if place.start + place.size > following.start:
            _refuse(path, f"the tensors {place.name!r} and {following.name!r} overlap")


def _whole_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _refuse(path: Path, reason: str) -> NoReturn:
    raise BadModelFile(
        f"{path} is not a usable safetensors file: {reason}",
        remedy="Fetch the file again and compare its digest, or save the model in a supported type.",
    )
