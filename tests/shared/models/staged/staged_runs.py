"""Runs staged graphs with onnxruntime alone, one after the other, and whole graphs to hold them against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from updraft.models.staged import Manifest, read_manifest

__all__ = ["StagedRuns", "whole_logits"]

Rows = NDArray[np.float32]


class StagedRuns:
    """All stages of a folder and their caches, which grow by what is run."""

    def __init__(self, folder: Path) -> None:
        self.manifest: Manifest = read_manifest(folder)
        self._sessions = {part.file: _session(folder / part.file) for part in self.manifest.graphs}
        self._caches: dict[str, dict[str, Rows]] = {}
        self._pad = int(self.manifest.exact)

    def run(self, tokens: list[int], past: int) -> tuple[Rows, dict[int, Rows]]:
        """Logits of the whole model for each token, and those of every exit by its stage."""
        entering: NDArray[Any] = np.array([tokens])
        exits: dict[int, Rows] = {}
        for index, stage in enumerate(self.manifest.stages):
            last = index == len(self.manifest.stages) - 1
            name = "input_ids" if index == 0 else "hidden_in"
            entering = self._part(stage.file, name, entering, past, "features" if last else "hidden_out")
            for part in self.manifest.exits:
                if part.stage == index:
                    exits[index] = self._logits(self._part(part.file, "hidden_in", entering, past, "features"))
        return self._logits(entering), exits

    def _part(self, file: str, entry: str, rows: NDArray[Any], past: int, result: str) -> Rows:
        session = self._sessions[file]
        total = past + rows.shape[1] + self._pad
        feeds = {
            entry: rows,
            "seqlens_k": np.array([total - 1], np.int32),
            "total_sequence_length": np.array(total, np.int32),
        }
        size = self.manifest
        for name in (value.name for value in session.get_inputs() if value.name not in feeds):
            kept = self._caches.get(file, {}).get(name.replace("past_key_values", "present"))
            empty = np.zeros((1, size.kv_heads, 0, size.head_size), np.float32)
            feeds[name] = empty if kept is None else np.ascontiguousarray(kept[:, :, :past])
        names = [value.name for value in session.get_outputs()]
        given = dict(zip(names, session.run(names, feeds), strict=True))
        self._caches[file] = given
        found: Rows = given[result]
        return found

    def _logits(self, features: Rows) -> Rows:
        rows: Rows = self._sessions[self.manifest.head.file].run(["logits"], {"features": features})[0][0]
        return rows


def whole_logits(graph: Path, tokens: list[int], kv: tuple[int, int]) -> Rows:
    """Logits of a graph as the builder wrote it; `kv` is the number of heads for keys, and values a head."""
    session = _session(graph)
    feeds: dict[str, NDArray[Any]] = {
        "input_ids": np.array([tokens]),
        "attention_mask": np.ones((1, len(tokens)), np.int64),
    }
    for value in session.get_inputs():
        feeds.setdefault(value.name, np.zeros((1, kv[0], 0, kv[1]), np.float32))
    rows: Rows = session.run(["logits"], feeds)[0][0]
    return rows


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
