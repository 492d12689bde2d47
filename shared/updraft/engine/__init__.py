"""The model engines: one protocol, and backends that are imported when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from updraft.engine.base import Engine, FloatRows, ModelInfo, Output, Run, StagedEngine, StageInfo, Tokenizer
from updraft.errors import ConfigError, UnknownName

__all__ = [
    "Engine",
    "FloatRows",
    "ModelInfo",
    "Output",
    "Run",
    "StageInfo",
    "StagedEngine",
    "Tokenizer",
    "open_engine",
]

BACKENDS = ("llama", "onnx")


def open_engine(model: str | Path, *, backend: str | None = None, **options: Any) -> Engine:
    """Load a model by catalogue name or path and return its engine.

    Args:
        model: a name of `updraft models list`, the path of a .gguf file, or a staged model folder.
        backend: the library that computes: "llama" (llama.cpp) or "onnx" (ONNX Runtime, which gives a `StagedEngine`);
            the one that the model is made for when left out.
        options: the backend's own arguments, see `LlamaEngine` and `OnnxEngine`.

    Raises:
        UnknownName: no such backend or model.
        MissingExtra: the backend's library is not installed.
        ModelError: the file is missing or damaged.
        ConfigError: an option is out of range.
    """
    if backend is not None and backend not in BACKENDS:
        raise UnknownName(f"unknown engine backend {backend!r}; there is: {', '.join(BACKENDS)}", param="backend")
    from updraft.models.catalog import resolve

    path = resolve(model)
    name = None if isinstance(model, Path) else model.removesuffix(".gguf").rpartition("/")[2]
    options = {"name": name or None, **options}
    if path.is_dir() if backend is None else backend == "onnx":
        from updraft.engine.onnx import OnnxEngine

        return OnnxEngine(path, **options)
    if given := sorted({"split", "carry", "last_stage"} & options.keys()):
        raise ConfigError(
            f"{', '.join(given)} is set, but {path.name} is not a staged model.",
            remedy="Leave it out, or name a folder that `updraft models export` made.",
        )
    from updraft.engine.llama import LlamaEngine

    return LlamaEngine(path, **options)
