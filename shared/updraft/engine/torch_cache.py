"""A sequence's keys and values in one preallocated tensor."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from updraft.errors import InvalidRequest

__all__ = ["CacheShape", "SequenceCache"]


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What the caches of an engine have in common; sizes are counts, `context` is in positions."""

    layers: int
    heads: int
    context: int
    head_size: int
    dtype: torch.dtype
    device: torch.device

    def of(self, length: int) -> tuple[int, ...]:
        """Layers, keys and values, heads, positions, head size."""
        return (self.layers, 2, self.heads, length, self.head_size)


class SequenceCache:
    """Keys and values of `length` positions. What is written beyond them does not count until `length` says so.

    On the CPU the system gives memory as it is written.
    """

    def __init__(self, shape: CacheShape) -> None:
        self._shape = shape
        self._data = torch.empty(shape.of(shape.context), dtype=shape.dtype, device=shape.device)
        self.length = 0

    def write(self, layer: int, start: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys and values, shape (rows, heads, head size), at `start` and on.

        Gives all up to them, shape (heads, positions, head size).
        """
        stop = start + len(keys)
        held_keys, held_values = self._data[layer]
        held_keys[:, start:stop] = keys.transpose(0, 1)
        held_values[:, start:stop] = values.transpose(0, 1)
        return held_keys[:, :stop], held_values[:, :stop]

    def copy_to(self, other: SequenceCache) -> None:
        other._data[:, :, :, : self.length] = self._data[:, :, :, : self.length]
        other.length = self.length

    def to_bytes(self) -> bytes:
        held = self._data[:, :, :, : self.length].contiguous().cpu()
        return held.view(torch.uint8).numpy().tobytes() if self.length else b""

    def load(self, payload: bytes, length: int) -> None:
        """Take what `to_bytes` gave. Raises InvalidRequest where the sizes differ."""
        shape = self._shape.of(length)
        if len(payload) != prod(shape) * self._shape.dtype.itemsize:
            raise InvalidRequest(f"a saved sequence of {length} tokens cannot have {len(payload)} bytes for this model")
        if length:
            held = torch.frombuffer(bytearray(payload), dtype=self._shape.dtype).view(shape)
            self._data[:, :, :, :length] = held
        self.length = length
