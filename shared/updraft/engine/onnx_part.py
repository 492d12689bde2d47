"""One graph's work on one sequence: its keys and values in place, and the rows that it reads and writes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.engine.base import FloatRows

__all__ = ["Graph", "Part"]

_PAST, _PRESENT = "past_key_values.", "present."


class Graph:
    """A session of consecutive layers with attention, as `updraft.models.staged` cuts them.

    Args:
        session: an onnxruntime.InferenceSession.
        heads: key-value heads.
        head_size: values a head.
        spare: rows past the last position that the graph writes to its keys and values (padded attention).
    """

    def __init__(self, session: Any, *, heads: int, head_size: int, spare: int) -> None:
        self.session, self.spare = session, spare
        self.heads, self.head_size = heads, head_size
        names = [node.name for node in session.get_inputs()]
        self.caches = [name for name in names if name.startswith(_PAST)]
        self.source = "input_ids" if "input_ids" in names else "hidden_in"
        self.result = next(node.name for node in session.get_outputs() if not node.name.startswith(_PRESENT))
        self.positions = "position_ids" in names


class Part:
    """What one graph has computed of one sequence.

    Keys and values lie in buffers of the whole context that the graph reads as its past and writes as its present, so a
    step moves no more than its own rows. Rows past `done` are scratch: forgetting positions is lowering `done`.

    Attributes:
        done: positions with keys, values and a result.
        source: rows that the graph reads: token ids, shape (context,), or states, shape (context, width).
        result: rows that it writes, float32, shape (context, width).
    """

    def __init__(self, graph: Graph, source: NDArray[Any], result: FloatRows, context: int) -> None:
        self.done = 0
        self.source, self.result = source, result
        self._graph = graph
        shape = (1, graph.heads, context + graph.spare, graph.head_size)
        self._caches: list[FloatRows] = [np.zeros(shape, np.float32) for _ in graph.caches]
        self._last = np.zeros(1, np.int32)
        self._total = np.zeros((), np.int32)
        self._positions: NDArray[np.int64] = np.arange(context, dtype=np.int64)
        self._binding = graph.session.io_binding()
        for name, cache in zip(graph.caches, self._caches, strict=True):
            self._bind(self._binding.bind_input, name, cache, shape)
            self._bind(self._binding.bind_output, name.replace(_PAST, _PRESENT), cache, shape)
        self._bind(self._binding.bind_input, "seqlens_k", self._last, (1,))
        self._bind(self._binding.bind_input, "total_sequence_length", self._total, ())
        # Single steps read and write these, so that they need no binding of their own.
        self._step_source, self._step_result = np.zeros_like(source[:1]), np.zeros_like(result[:1])
        self._steps_bound = False

    def extend(self, stop: int, chunk: int) -> None:
        """Compute positions `done` to `stop`, at most `chunk` in a pass; `done` stays for the caller to raise."""
        for start in range(self.done, stop, chunk):
            self._run(start, min(chunk, stop - start))

    def copy_to(self, other: Part) -> None:
        """Make `other`, a part of the same graph, hold the same positions."""
        other.done = self.done
        for mine, its in zip(self.arrays(self.done), other.arrays(self.done), strict=True):
            its[...] = mine

    def arrays(self, count: int) -> list[FloatRows]:
        """Views of everything that the first `count` positions consist of."""
        return [*(cache[:, :, :count] for cache in self._caches), self.result[:count]]

    def _run(self, start: int, count: int) -> None:
        graph = self._graph
        total = start + count + graph.spare
        self._last[0], self._total[()] = total - 1, total
        if graph.positions:
            positions = self._positions[start : start + count]
            self._bind(self._binding.bind_input, "position_ids", positions, (1, count))
        if count > 1:
            self._bind_rows(self.source[start : start + count], self.result[start : start + count])
            graph.session.run_with_iobinding(self._binding)
            return
        if not self._steps_bound:
            self._bind_rows(self._step_source, self._step_result)
            self._steps_bound = True
        self._step_source[0] = self.source[start]
        graph.session.run_with_iobinding(self._binding)
        self.result[start] = self._step_result[0]

    def _bind_rows(self, source: NDArray[Any], result: FloatRows) -> None:
        self._steps_bound = False
        self._bind(self._binding.bind_input, self._graph.source, source, (1, *source.shape))
        self._bind(self._binding.bind_output, self._graph.result, result, (1, *result.shape))

    @staticmethod
    def _bind(bind: Any, name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
        bind(name, "cpu", 0, array.dtype.type, shape, array.ctypes.data)
