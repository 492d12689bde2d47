"""Loading ONNX Runtime and its sessions. Everything here happens once an engine."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from updraft.errors import BadModelFile, MissingExtra

__all__ = ["library", "load_session"]

_FATAL = 4  # log severity: what goes wrong comes as an exception with its reason


@functools.cache
def library() -> Any:
    """The onnxruntime module, silent and without telemetry.

    Raises:
        MissingExtra: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(
            f"the ONNX engine needs onnxruntime, which could not be imported: {error}",
            remedy='pip install "updraft-llm[onnx]"',
        ) from error
    onnxruntime.set_default_logger_severity(_FATAL)
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def load_session(path: Path, threads: int) -> Any:
    """An InferenceSession on the CPU for a graph that `check_folder` has checked.

    Raises:
        BadModelFile: ONNX Runtime refuses the graph; the message carries its reason.
    """
    lib = library()
    options = lib.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = lib.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _FATAL
    # Measured: single steps take 5 to 8 per cent longer with the arena, long runs as long.
    options.enable_cpu_mem_arena = False
    # A session's idle threads would spin beside the next stage's session, and beside whoever else works here.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return lib.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's own classes have no common base but this
        raise BadModelFile(f"ONNX Runtime cannot load {path}: {error}") from None
