"""What the torch engine keeps of a sequence: keys and values, and hidden states where runs may stop."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from updraft.errors import InvalidRequest
from updraft.exits.carry import Carry, rounded

__all__ = ["CacheShape", "SequenceCache"]

_HEADER = struct.Struct("<II")  # entry, layers; then the positions of each layer, and the token ids


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What the caches of an engine have in common; sizes are counts, `context` is in positions.

    Attributes:
        layers: with keys and values: the model's from the bottom, then one for each exit.
        width: of a hidden state.
        kept: layers after which hidden states are kept, in float32.
        split: the one of them whose states are rounded to `carry`.
    """

    layers: int
    heads: int
    context: int
    head_size: int
    width: int
    dtype: torch.dtype
    device: torch.device
    kept: tuple[int, ...] = ()
    split: int | None = None
    carry: Carry = "float32"

    @property
    def keys_and_values(self) -> tuple[int, ...]:
        """Layers, keys and values, heads, positions, head size."""
        return (self.layers, 2, self.heads, self.context, self.head_size)


class SequenceCache:
    """How far each layer has come, and what it has left. What is written beyond that does not count until `commit`.

    On the CPU the system gives memory as it is written.

    Attributes:
        entry: the layer at which the sequence begins; those below have nothing.
        tokens: ids of all positions, int64, shape (context,).
    """

    def __init__(self, shape: CacheShape) -> None:
        self._shape = shape
        self._data = torch.empty(shape.keys_and_values, dtype=shape.dtype, device=shape.device)
        self._kept = {
            layer: torch.empty((shape.context, shape.width), dtype=torch.float32, device=shape.device)
            for layer in shape.kept
        }
        self._done = [0] * shape.layers
        self.entry = 0
        self.tokens: NDArray[np.int64] = np.zeros(shape.context, np.int64)

    @property
    def length(self) -> int:
        """Positions that have passed the layer at which the sequence begins."""
        return self._done[self.entry]

    def computed(self, layer: int) -> int:
        """Positions that have passed a layer."""
        return self._done[layer]

    def states(self, layer: int) -> Tensor | None:
        """Hidden states after a layer, shape (context, width); only the first `computed` ones mean anything.

        None where they are not kept.
        """
        return self._kept.get(layer)

    def keep(self, layer: int, start: int, states: Tensor) -> Tensor:
        """Keep states of the positions from `start` on, shape (rows, width); gives those to go on with, rounded at the
        split."""
        shape, values = self._shape, states.float()
        if layer == shape.split and shape.carry != "float32":
            values = torch.from_numpy(rounded(values.cpu().numpy(), shape.carry)).to(shape.device)
        self._kept[layer][start : start + len(states)] = values
        return values.to(states.dtype)

    def write(self, layer: int, start: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys and values, shape (rows, heads, head size), at `start` and on.

        Gives all up to them, shape (heads, positions, head size).
        """
        stop = start + len(keys)
        held_keys, held_values = self._data[layer]
        held_keys[:, start:stop] = keys.transpose(0, 1)
        held_values[:, start:stop] = values.transpose(0, 1)
        return held_keys[:, :stop], held_values[:, :stop]

    def commit(self, entry: int, done: Mapping[int, int]) -> None:
        """What was written counts: up to so many positions in each of these layers."""
        self.entry = entry
        for layer, stop in done.items():
            self._done[layer] = stop

    def truncate(self, length: int) -> None:
        self._done = [min(done, length) for done in self._done]
        if length == 0:
            self.entry = 0

    def copy_to(self, other: SequenceCache) -> None:
        other.entry, other._done = self.entry, list(self._done)
        other.tokens[: self.length] = self.tokens[: self.length]
        for mine, its in zip(self._parts(), other._parts(), strict=True):
            its.copy_(mine)

    def to_bytes(self) -> bytes:
        header = _HEADER.pack(self.entry, len(self._done)) + struct.pack(f"<{len(self._done)}I", *self._done)
        parts = [part.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes() for part in self._parts()]
        return b"".join([header, self.tokens[: self.length].tobytes(), *parts])

    def load(self, payload: bytes, length: int) -> None:
        """Become what `to_bytes` of a cache of the same shape gave; empty where that fails.

        Raises InvalidRequest: the bytes do not fit each other, `length` or this shape.
        """
        layers = len(self._done)
        place = _HEADER.size + 4 * layers
        if len(payload) < place or _HEADER.unpack_from(payload)[1] != layers:
            raise InvalidRequest(f"a saved sequence of {len(payload)} bytes does not fit a model of {layers} layers")
        entry, done = _HEADER.unpack_from(payload)[0], struct.unpack_from(f"<{layers}I", payload, _HEADER.size)
        if entry >= layers or max(done) != length or done[entry] != length or any(done[:entry]):
            raise InvalidRequest(f"the saved layers hold {done} positions of a sequence of {length}")
        self.entry, self._done = entry, list(done)
        parts = list(self._parts())
        if len(payload) != place + 8 * length + sum(part.nbytes for part in parts):
            self.truncate(0)
            raise InvalidRequest(f"a saved sequence of {length} tokens cannot have {len(payload)} bytes for this model")
        self.tokens[:length] = np.frombuffer(payload, "<i8", length, place)
        place += 8 * length
        data = bytearray(payload)
        for part in parts:
            part.copy_(torch.frombuffer(data, dtype=part.dtype, count=part.numel(), offset=place).view(part.shape))
            place += part.nbytes

    def _parts(self) -> Iterator[Tensor]:
        """Views of everything that counts."""
        for layer, done in enumerate(self._done):
            if done:
                yield self._data[layer, :, :, :done]
        for layer, states in self._kept.items():
            if self._done[layer]:
                yield states[: self._done[layer]]
