"""A range-checked walk over a GGUF header, done before any other code reads the file.

GGUF (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): magic, version, counts, key-value pairs, tensor
descriptions, padding, tensor data. Every length in it is a 64-bit number that a damaged or hostile file can set to
anything, so each is held against the bytes that are left.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from updraft.errors import BadModelFile, ModelNotFound

__all__ = ["Array", "GgufHeader", "Scalar", "TensorPlace", "open_header"]

Scalar = int | float | bool | str

_MAX_PAIRS = 1 << 16
_MAX_TENSORS = 1 << 16
_MAX_KEY_BYTES = 65_535  # the format's own limit
_MAX_STRING_BYTES = 16 << 20
_MAX_ARRAY_ITEMS = 1 << 24
_MAX_TENSOR_NAME = 63  # ggml keeps 64 bytes with the final zero
_MAX_DIMENSION = 1 << 40
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32, _U64 = _SCALARS[4], _SCALARS[10]


@dataclass(frozen=True, slots=True)
class Array:
    """An array value: its item type, item count and bytes as they stand in the file."""

    kind: int
    count: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """One tensor's description; `start` and `size` are bytes in the file."""

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What stands before the tensor data; `data` is the whole file, mapped."""

    path: Path
    data: mmap.mmap
    values: dict[str, Scalar | Array]
    values_end: int
    tensors: tuple[TensorPlace, ...]
    data_start: int

    def numbers(self, array: Array) -> list[int | float]:
        """The items of an array of numbers."""
        item = _SCALARS[array.kind]
        return [value[0] for value in item.iter_unpack(self.data[array.start : array.end])]


@contextmanager
def open_header(path: Path, *, vocabulary_only: bool = False) -> Iterator[GgufHeader]:
    """Map the file and walk its header.

    Args:
        path: the file.
        vocabulary_only: it holds a tokenizer and no tensors; otherwise it must hold some.

    Raises:
        ModelNotFound: nothing is there, or it cannot be opened.
        BadModelFile: a directory, empty, not GGUF, or a size in it that does not fit the file.
    """
    if path.is_dir():
        raise BadModelFile(f"{path} is a directory, not a .gguf file")
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise BadModelFile(f"{path} is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield _Walk(path, data).header(vocabulary_only)
    except FileNotFoundError:
        raise ModelNotFound(f"there is no model file at {path}") from None
    except OSError as error:
        raise ModelNotFound(f"the model file {path} cannot be read: {error.strerror}") from None


class _Walk:
    """A position in the mapped file that never passes its end."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self._size, self._at = path, data, len(data), 0

    def header(self, vocabulary_only: bool = False) -> GgufHeader:
        tensors, pairs = self._counts(0 if vocabulary_only else 1, 0 if vocabulary_only else _MAX_TENSORS)
        values: dict[str, Scalar | Array] = {}
        for _ in range(pairs):
            key = self._string(_MAX_KEY_BYTES, "key")
            if key in values:
                self._refuse(f"the key {key!r} stands in it twice")
            values[key] = self._value(self._number(_U32), key)
        values_end = self._at
        described = [self._tensor() for _ in range(tensors)]
        alignment = values.get("general.alignment", 32)
        if type(alignment) is not int or not 8 <= alignment <= 65_536 or alignment & (alignment - 1):
            self._refuse(f"general.alignment is {alignment!r}, not a power of two from 8 to 65536")
        start = self._at + -self._at % alignment
        places = self._place(described, start, alignment)
        return GgufHeader(self._path, self._data, values, values_end, places, start)

    def _counts(self, least: int, most: int) -> tuple[int, int]:
        if self._take(4, "magic") != b"GGUF":
            self._refuse("it does not start with the letters GGUF")
        version = self._number(_U32)
        if version not in (2, 3):
            hint = " (big-endian files are not supported)" if version & 0xFFFF == 0 else ""
            self._refuse(f"GGUF version {version} is not 2 or 3{hint}")
        tensors, pairs = self._number(_U64), self._number(_U64)
        if not least <= tensors <= most:
            self._refuse(f"it says that it holds {tensors} tensors; {least} to {most} are allowed")
        if pairs > _MAX_PAIRS:
            self._refuse(f"it says that it holds {pairs} key-value pairs; {_MAX_PAIRS} are allowed")
        return tensors, pairs

    def _value(self, kind: int, key: str) -> Scalar | Array:
        if kind == _STRING:
            return self._string(_MAX_STRING_BYTES, f"the value of {key}")
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _SCALARS:
            self._refuse(f"{key} has the unknown type {kind}")
        value: Scalar = _SCALARS[kind].unpack(self._take(_SCALARS[kind].size, key))[0]
        return value

    def _array(self, key: str) -> Array:
        kind, count = self._number(_U32), self._number(_U64)
        if count > _MAX_ARRAY_ITEMS:
            self._refuse(f"the array {key} has {count} items; {_MAX_ARRAY_ITEMS} are allowed")
        if kind == _STRING:
            start = self._at
            for _ in range(count):
                self._skip(self._number(_U64), _MAX_STRING_BYTES, key)
            return Array(kind, count, start, self._at)
        if kind not in _SCALARS:
            self._refuse(f"the array {key} has items of the unsupported type {kind}")
        start = self._at
        self._skip(count * _SCALARS[kind].size, self._size, key)
        return Array(kind, count, start, self._at)

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string(_MAX_TENSOR_NAME, "tensor name")
        dimensions = self._number(_U32)
        if not 1 <= dimensions <= 4:
            self._refuse(f"tensor {name!r} has {dimensions} dimensions; 1 to 4 are allowed")
        shape = tuple(self._number(_U64) for _ in range(dimensions))
        if not all(1 <= size <= _MAX_DIMENSION for size in shape):
            self._refuse(f"tensor {name!r} has the shape {shape}")
        return name, shape, self._number(_U32), self._number(_U64)

    def _place(
        self, described: list[tuple[str, tuple[int, ...], int, int]], start: int, alignment: int
    ) -> tuple[TensorPlace, ...]:
        sizes = _block_sizes()
        places: dict[str, TensorPlace] = {}
        for name, shape, kind, offset in described:
            if kind not in sizes:
                self._refuse(f"tensor {name!r} has the unknown type {kind}")
            block, width = sizes[kind]
            if shape[0] % block:
                self._refuse(f"tensor {name!r} has rows of {shape[0]} values, not a multiple of {block}")
            size = shape[0] // block * width
            for dimension in shape[1:]:
                size *= dimension
            if offset % alignment:
                self._refuse(f"tensor {name!r} starts at {offset}, not a multiple of {alignment}")
            if start + offset + size > self._size:
                self._refuse(
                    f"tensor {name!r} ends at byte {start + offset + size}, but the file has {self._size} bytes "
                    "(cut off while it was fetched?)"
                )
            if name in places:
                self._refuse(f"tensor {name!r} stands in it twice")
            places[name] = TensorPlace(name, shape, kind, start + offset, size)
        self._apart(sorted(places.values(), key=lambda place: place.start))
        return tuple(places.values())

    def _apart(self, places: list[TensorPlace]) -> None:
        """Tensors in the order of their places may touch, but not overlap: one would be read as another's values."""
        for place, following in pairwise(places):
            if place.start + place.size > following.start:
                self._refuse(f"the tensors {place.name!r} and {following.name!r} overlap")

    def _string(self, limit: int, what: str) -> str:
        size = self._number(_U64)
        if size > limit:
            self._refuse(f"{what} is {size} bytes long; {limit} are allowed")
        try:
            return self._take(size, what).decode("utf-8")
        except UnicodeDecodeError:
            self._refuse(f"{what} is not valid UTF-8")

    def _number(self, item: struct.Struct) -> int:
        at = self._at
        if at + item.size > self._size:
            self._refuse(f"it ends inside its header; {item.size} more bytes were expected")
        self._at = at + item.size
        return int(item.unpack_from(self._data, at)[0])

    def _skip(self, size: int, limit: int, what: str) -> None:
        if size > limit or size > self._size - self._at:
            self._refuse(f"{what} wants {size} bytes, but {self._size - self._at} are left")
        self._at += size

    def _take(self, size: int, what: str) -> bytes:
        start = self._at
        self._skip(size, self._size, what)
        return self._data[start : self._at]

    def _refuse(self, reason: str) -> NoReturn:
        raise BadModelFile(f"{self._path} is not a usable GGUF file: {reason} (at byte {self._at})")


def _block_sizes() -> dict[int, tuple[int, int]]:
    """Values and bytes in a block of each tensor type."""
    from gguf.constants import GGML_QUANT_SIZES  # a quarter of a second: only when a file is read

    return {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()}
