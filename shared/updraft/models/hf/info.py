"""What a Hugging Face folder says about itself and its tokenizer; needs no backend's library."""

from __future__ import annotations

from pathlib import Path

from updraft.engine.base import ModelInfo
from updraft.errors import BadModelFile
from updraft.models.gguf_info import Vocabulary, read_vocabulary
from updraft.models.hf.files import plain_file, read_object
from updraft.models.hf.folder import HfFolder, open_folder
from updraft.models.staged.manifest import MANIFEST_FILE
from updraft.models.staged.tokenizer_file import GGUF_TOKENIZER, JSON_TOKENIZER, json_vocabulary

__all__ = ["hf_info", "is_hf_folder", "tokenizer_path"]


def is_hf_folder(path: Path) -> bool:
    """A folder with a config.json that is not a staged model."""
    return path.is_dir() and (path / "config.json").is_file() and not (path / MANIFEST_FILE).exists()


def hf_info(folder: HfFolder | Path) -> ModelInfo:
    """Raises what `open_folder` does, and ModelNotFound where there is no tokenizer."""
    folder = open_folder(folder) if isinstance(folder, Path) else folder
    config, vocabulary = folder.config, _vocabulary(folder)
    return ModelInfo(
        name=folder.path.resolve().name,
        architecture=config.family,
        layers=config.layers,
        width=config.width,
        vocabulary=config.vocabulary,
        context_length=config.context,
        weight_bytes=folder.weight_bytes,
        quantisation=folder.kind,
        fingerprint=folder.fingerprint(),
        tokenizer_hash=vocabulary.tokenizer_hash,
        end_tokens=frozenset(token for token in vocabulary.end_tokens if 0 <= token < config.vocabulary),
        chat_template=vocabulary.chat_template,
    )


def tokenizer_path(folder: Path) -> Path:
    """A vocabulary-only `tokenizer.gguf`, so that edges with GGUF files know the tokenizer; else `tokenizer.json`."""
    return folder / (GGUF_TOKENIZER if (folder / GGUF_TOKENIZER).exists() else JSON_TOKENIZER)


def _vocabulary(folder: HfFolder) -> Vocabulary:
    path = tokenizer_path(folder.path)
    plain_file(path)
    if path.name == JSON_TOKENIZER:
        return json_vocabulary(folder.path, read_object(folder.path / "config.json"))
    found = read_vocabulary(path, vocabulary_only=True)
    if found.tokens != folder.config.vocabulary:
        raise BadModelFile(f"{path} has {found.tokens} tokens; its model has {folder.config.vocabulary}")
    return found
