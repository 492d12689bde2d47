"""A sequence of a staged model: how far each stage has come, and the hidden states between stages."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from updraft.engine.base import FloatRows
from updraft.engine.onnx_part import Graph, Part
from updraft.errors import InvalidRequest
from updraft.exits.carry import Carry, rounded

__all__ = ["Layout", "StagedSequence"]

_HEADER = struct.Struct("<II")  # entry, parts; then the positions of each part


@dataclass(frozen=True, slots=True)
class Layout:
    """What all sequences of an engine have in common.

    Attributes:
        stages: the loaded stages' graphs from the bottom.
        exits: for each stage the graph of the exit at its end, or None.
        width: of a hidden state.
        context: positions of a sequence.
        chunk: positions that a graph computes in one native pass, at most.
        split: the stage whose boundary is rounded to `carry`.
    """

    stages: Sequence[Graph]
    exits: Sequence[Graph | None]
    width: int
    context: int
    chunk: int
    split: int | None
    carry: Carry


class StagedSequence:
    """Tokens, boundary states, and a `Part` for each stage and exit. Nothing counts until `commit`.

    An exit's block follows its stage only when its rows are asked for, over all positions that it lacks: a sequence
    that goes deeper pays nothing for exits that it passes.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.entry = 0
        self._tokens: NDArray[np.int64] = np.zeros(layout.context, np.int64)
        self._stages: list[Part] = []
        self._exits: list[Part | None] = []
        source: NDArray[np.int64] | FloatRows = self._tokens
        for graph, exit_graph in zip(layout.stages, layout.exits, strict=True):
            self._stages.append(Part(graph, source, self._rows(), layout.context))
            source = self._stages[-1].result
            exit_part = Part(exit_graph, source, self._rows(), layout.context) if exit_graph is not None else None
            self._exits.append(exit_part)

    @property
    def length(self) -> int:
        """Positions that have passed the first stage that this sequence has."""
        return self._stages[self.entry].done

    def computed(self, stage: int) -> int:
        return self._stages[stage].done

    def boundary(self, stage: int) -> FloatRows:
        """Rows of all positions; only the first `computed(stage)` mean anything."""
        return self._stages[stage].result

    def features(self, depth: int) -> FloatRows:
        """Normalised states at an exit or the model's end, rows of all positions."""
        return self._at(depth).result

    def fill(self, entry: int, tokens: NDArray[np.int32], inputs: FloatRows | None) -> int:
        """Put a run's tokens, and its states where it has some, behind the computed positions; gives the new length."""
        start = self._stages[entry].done
        stop = start + len(tokens)
        self._tokens[start:stop] = tokens
        if inputs is not None:
            self._stages[entry - 1].result[start:stop] = inputs
        return stop

    def compute(self, entry: int, depth: int, stop: int, *, rows: bool) -> list[tuple[Part, int]]:
        """Bring all stages from `entry` to `depth` to `stop` positions, with `rows` the exit there, too.

        Gives what `commit` takes once the whole pass has succeeded.
        """
        layout = self._layout
        parts = []
        for stage in range(entry, depth + 1):
            part = self._stages[stage]
            part.extend(stop, layout.chunk)
            if stage == layout.split and layout.carry != "float32" and part.done < stop:
                part.result[part.done : stop] = rounded(part.result[part.done : stop], layout.carry)
            parts.append((part, stop))
        last = self._at(depth)
        if rows and last is not parts[-1][0]:
            last.extend(stop, layout.chunk)
            parts.append((last, stop))
        return parts

    def commit(self, entry: int, parts: Sequence[tuple[Part, int]]) -> None:
        self.entry = entry
        for part, stop in parts:
            part.done = stop

    def truncate(self, length: int) -> None:
        for part in self._parts():
            part.done = min(part.done, length)
        if length == 0:
            self.entry = 0

    def copy_to(self, other: StagedSequence) -> None:
        """Make `other`, a sequence of the same layout, equal to this one."""
        other.entry = self.entry
        for mine, its in zip(self._parts(), other._parts(), strict=True):
            mine.copy_to(its)

    def to_bytes(self) -> bytes:
        """All that the sequence consists of, for `load` of a sequence of the same layout."""
        parts = self._parts()
        counts = struct.pack(f"<{len(parts)}I", *(part.done for part in parts))
        arrays = [array for part in parts for array in part.arrays(part.done)]
        return _HEADER.pack(self.entry, len(parts)) + counts + b"".join(array.tobytes() for array in arrays)

    def load(self, data: bytes, length: int) -> None:
        """Become the sequence of `length` positions that `to_bytes` has written; unchanged when that fails.

        Raises:
            InvalidRequest: the bytes do not fit each other, `length` or this layout.
        """
        parts = self._parts()
        if len(data) < _HEADER.size:
            raise InvalidRequest(f"saved state of {len(data)} bytes is too short")
        entry, saved_parts = _HEADER.unpack_from(data)
        start = _HEADER.size + 4 * len(parts)
        if saved_parts != len(parts) or entry >= len(self._stages) or len(data) < start:
            raise InvalidRequest(
                f"the sequence was saved by an engine of {saved_parts} stages and exits; this one has {len(parts)}",
                remedy="Restore into an engine with the same stages, or prefill from the token log.",
            )
        counts = struct.unpack_from(f"<{len(parts)}I", data, _HEADER.size)
        if max(counts) != length or counts[entry] != length or length > self._layout.context:
            raise InvalidRequest(f"the saved stages hold {counts} positions of a sequence of {length}")
        arrays = [array for part, count in zip(parts, counts, strict=True) for array in part.arrays(count)]
        if len(data) != start + sum(array.nbytes for array in arrays):
            raise InvalidRequest(f"saved state of {len(data)} bytes does not fit its {length} positions")
        for array in arrays:
            array[...] = np.frombuffer(data, np.float32, array.size, start).reshape(array.shape)
            start += array.nbytes
        self.entry = entry
        for part, count in zip(parts, counts, strict=True):
            part.done = count

    def _parts(self) -> list[Part]:
        return [part for part in chain(self._stages, self._exits) if part is not None]

    def _at(self, depth: int) -> Part:
        """What gives the rows at a depth: the exit there, else the model's own last stage."""
        return self._exits[depth] or self._stages[depth]

    def _rows(self) -> FloatRows:
        return np.zeros((self._layout.context, self._layout.width), np.float32)
