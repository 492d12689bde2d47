"""What a staged export is made from: a GGUF file or a Hugging Face folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from updraft.errors import BadModelFile, ModelNotFound
from updraft.models.gguf_info import Vocabulary, read_model_info, read_vocabulary
from updraft.models.llama_shape import config_fault
from updraft.models.staged.hf_folder import write_model
from updraft.models.staged.tokenizer_file import (
    GGUF_TOKENIZER,
    JSON_TOKENIZER,
    copy_json_tokenizer,
    read_json,
    write_gguf_tokenizer,
)
from updraft.models.weights import Weights, read_weights

__all__ = ["Source", "Tokenizer", "open_source"]


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer file as it was written, and what it says."""

    file: str
    vocabulary: Vocabulary


@dataclass(frozen=True, slots=True)
class Source:
    """A model to be staged.

    Attributes:
        weights: its tensors; None for architectures other than plain llama, which can be cut but have no rungs.
        layers: how many it has; None where its configuration says so in a way of its own.
        fingerprint: as rungs name it.
        room: bytes of its tensors in float32, roughly.
        folder: gives a Hugging Face folder for the builder and its configuration, written into the given one if needed.
        tokenizer: writes its tokenizer into a folder.
    """

    name: str
    weights: Weights | None
    layers: int | None
    fingerprint: str
    room: int
    folder: Callable[[Path], tuple[Path, dict[str, Any]]]
    tokenizer: Callable[[Path], Tokenizer]


def open_source(path: Path) -> Source:
    """Look at a model; reads no tensors yet.

    Raises:
        ModelNotFound: nothing is there, or no safetensors in a folder.
        BadModelFile: it cannot be read.
    """
    return _open_folder(path) if path.is_dir() else _open_gguf(path)


def _open_gguf(path: Path) -> Source:
    info = read_model_info(path)
    weights, vocabulary = read_weights(path), read_vocabulary(path)

    def folder(scratch: Path) -> tuple[Path, dict[str, Any]]:
        made = scratch / "source"
        return made, write_model(weights, made, bos=vocabulary.start_token, end_tokens=vocabulary.end_tokens)

    def tokenizer(target: Path) -> Tokenizer:
        return Tokenizer(GGUF_TOKENIZER, write_gguf_tokenizer(path, target / GGUF_TOKENIZER))

    return Source(path.stem, weights, info.layers, info.fingerprint, 8 * info.weight_bytes, folder, tokenizer)


def _open_folder(path: Path) -> Source:
    config = read_json(path / "config.json")
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise ModelNotFound(
            f"there are no safetensors files in {path}", remedy="Save the model with `safe_serialization=True`."
        )
    if not isinstance(config.get("vocab_size"), int):
        raise BadModelFile(f"{path / 'config.json'} lacks a usable 'vocab_size'")
    weights = read_weights(path) if config_fault(config) is None else None
    fingerprint = weights.fingerprint if weights is not None else _fingerprint(files)

    def tokenizer(target: Path) -> Tokenizer:
        return Tokenizer(JSON_TOKENIZER, copy_json_tokenizer(path, target / JSON_TOKENIZER, config))

    room = 2 * sum(file.stat().st_size for file in files)
    layers = config.get("num_hidden_layers")
    return Source(
        path.resolve().name,
        weights,
        layers if isinstance(layers, int) else None,
        fingerprint,
        room,
        lambda _: (path, config),
        tokenizer,
    )


def _fingerprint(files: list[Path]) -> str:
    """As `Weights.fingerprint` of a folder."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
