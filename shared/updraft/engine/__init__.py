"""The model engines: one protocol, and backends that are imported when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from updraft.engine.base import Engine, FloatRows, ModelInfo, Output, Run, Tokenizer
from updraft.errors import UnknownName

__all__ = ["Engine", "FloatRows", "ModelInfo", "Output", "Run", "Tokenizer", "open_engine"]

BACKENDS = ("llama",)


def open_engine(model: str | Path, *, backend: str = "llama", **options: Any) -> Engine:
    """Load a model by catalogue name or path and return its engine.

    Args:
        model: a name of `updraft models list` or the path of a .gguf file.
        backend: the library that computes; only "llama" (llama.cpp) so far.
        options: the backend's own arguments, see `LlamaEngine`.

    Raises:
        UnknownName: no such backend or model.
        MissingExtra: the backend's library is not installed.
        ModelError: the file is missing or damaged.
        ConfigError: an option is out of range.
    """
    if backend not in BACKENDS:
        raise UnknownName(f"unknown engine backend {backend!r}; there is: {', '.join(BACKENDS)}", param="backend")
    from updraft.engine.llama import LlamaEngine
    from updraft.models.catalog import resolve

    name = None if isinstance(model, Path) else model.removesuffix(".gguf").rpartition("/")[2]
    return LlamaEngine(resolve(model), **{"name": name, **options})
