"""What goes into a native pass and comes out of it: the arrays of a `llama_batch`, and views of its rows."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.engine.base import FloatRows, Run

__all__ = ["LlamaBatch", "RowViews", "grouped"]


class LlamaBatch:
    """Room for `capacity` tokens; `native` is the structure that `llama_decode` reads.

    Each token belongs to one sequence, so the pointer table of `seq_id` is built once, pointing into one
    array of sequence numbers.
    """

    def __init__(self, lib: Any, capacity: int) -> None:
        self.token: NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.position: NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.sequence: NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.output: NDArray[np.int8] = np.zeros(capacity, np.int8)
        self._ones: NDArray[np.int32] = np.ones(capacity, np.int32)
        self._pointers = self.sequence.ctypes.data + 4 * np.arange(capacity, dtype=np.uintp)
        self._offsets: NDArray[np.int32] = np.arange(capacity, dtype=np.int32)
        self.native = lib.llama_batch(
            n_tokens=0,
            token=_pointer(self.token, ctypes.c_int32),
            pos=_pointer(self.position, ctypes.c_int32),
            n_seq_id=_pointer(self._ones, ctypes.c_int32),
            seq_id=ctypes.cast(self._pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            logits=_pointer(self.output, ctypes.c_int8),
        )

    def fill_one(self, sequence: int, position: int, token: int, output: int) -> None:
        """One token: the path of plain generation, kept free of slices."""
        self.token[0] = token
        self.position[0] = position
        self.sequence[0] = sequence
        self.output[0] = output
        self.native.n_tokens = 1

    def fill(self, runs: Sequence[Run], tokens: Sequence[NDArray[np.int32]]) -> None:
        """The runs one after the other; `tokens[i]` are the checked ids of `runs[i]`."""
        start = 0
        for run, ids in zip(runs, tokens, strict=True):
            end = start + len(ids)
            self.token[start:end] = ids
            np.add(self._offsets[: len(ids)], run.position, out=self.position[start:end])
            self.sequence[start:end] = run.sequence
            self.output[start:end] = 0
            self.output[end - run.rows : end] = 1
            start = end
        self.native.n_tokens = start


class RowViews:
    """Rows of native floats as read-only arrays without a copy; the last view is kept, since most passes repeat it."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._none: FloatRows = np.empty((0, width), np.float32)
        self._last: FloatRows = self._none
        self._key = (0, 0)

    def view(self, pointer: Any, rows: int) -> FloatRows:
        """Shape (rows, width), valid until the next native pass."""
        if not rows:
            return self._none
        key = (ctypes.addressof(pointer.contents), rows)
        if key != self._key:
            memory = (ctypes.c_float * (rows * self._width)).from_address(key[0])
            self._last = np.ctypeslib.as_array(memory).reshape(rows, self._width)
            self._last.flags.writeable = False
            self._key = key
        return self._last


def grouped(order: Sequence[int], sizes: Sequence[int], capacity: int) -> Iterator[list[int]]:
    """Cut `order`, indices into `sizes`, into as few parts as it allows whose sizes sum to at most `capacity`."""
    group: list[int] = []
    total = 0
    for index in order:
        if group and total + sizes[index] > capacity:
            yield group
            group, total = [], 0
        group.append(index)
        total += sizes[index]
    if group:
        yield group


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
