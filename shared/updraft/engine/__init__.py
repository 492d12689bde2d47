"""The model engines: one protocol, and backends that are imported when asked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from updraft.engine.base import Engine, FloatRows, ModelInfo, Output, Run, StagedEngine, StageInfo, Tokenizer
from updraft.errors import ConfigError, MissingExtra, UnknownName

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

BACKENDS = ("llama", "onnx", "torch")
_STAGED = {"split", "carry", "last_stage"}
_TORCH = {"device", "dtype", "expert_bits", "exact", "experts", "head", "rungs"}
_OPTIONS = {"llama": set[str](), "onnx": _STAGED, "torch": _STAGED | _TORCH}  # besides those that all have
_MODELS = (
    (_STAGED, "a staged model", "name a folder that `updraft models export` made"),
    (_TORCH, "computed by torch", "name a Hugging Face folder"),
)


def open_engine(model: str | Path, *, backend: str | None = None, **options: Any) -> Engine:
    """Load a model by catalogue name or path and return its engine.

    Args:
        model: a name of `updraft models list`, the path of a .gguf file, or a staged model's or a Hugging Face folder.
        backend: the library that computes: "llama" (llama.cpp), "onnx" (ONNX Runtime) or "torch", both of which give
            a `StagedEngine`; the one that the model is made for when left out.
        options: the backend's own arguments, see `LlamaEngine`, `OnnxEngine` and `TorchEngine`.

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
    chosen = backend or _backend_of(path)
    _check_options(path, chosen, options.keys())
    if chosen == "onnx":
        from updraft.engine.onnx import OnnxEngine

        return OnnxEngine(path, **options)
    if chosen == "torch":
        return _torch_engine(path, options)
    from updraft.engine.llama import LlamaEngine

    return LlamaEngine(path, **options)


def _backend_of(path: Path) -> str:
    """The library that a model is made for; a folder that is neither kind is told so by ONNX Runtime's backend."""
    if not path.is_dir():
        return "llama"
    from updraft.models.hf import is_hf_folder

    return "torch" if is_hf_folder(path) else "onnx"


def _check_options(path: Path, backend: str, given: Iterable[str]) -> None:
    for names, kind, remedy in _MODELS:
        if wrong := sorted(names.intersection(given) - _OPTIONS[backend]):
            raise ConfigError(
                f"{', '.join(wrong)} is set, but {path.name} is not {kind}.", remedy=f"Leave it out, or {remedy}."
            )


def _torch_engine(path: Path, options: dict[str, Any]) -> Engine:
    try:
        from updraft.engine.torch import TorchEngine
    except ImportError as error:
        raise MissingExtra(
            f"the torch engine needs torch, which could not be imported: {error}",
            remedy='pip install "updraft-llm[torch]"',
        ) from error
    return TorchEngine(path, **options)
