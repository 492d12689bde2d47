"""What a model of either kind says about itself: a GGUF file or a staged folder."""

from __future__ import annotations

from pathlib import Path

from updraft.engine.base import ModelInfo
from updraft.models.gguf_info import read_model_info

__all__ = ["model_info"]


def model_info(path: Path) -> ModelInfo:
    """Read a GGUF file's header or a staged folder's manifest; needs no backend's library.

    Raises:
        ModelNotFound: nothing is there.
        BadModelFile: it is neither.
    """
    if not path.is_dir():
        return read_model_info(path)
    from updraft.models.staged.manifest import read_manifest

    manifest = read_manifest(path)
    return ModelInfo(
        name=manifest.name,
        architecture=manifest.architecture,
        layers=manifest.layers,
        width=manifest.width,
        vocabulary=manifest.vocabulary,
        context_length=manifest.context_length,
        weight_bytes=manifest.weight_bytes,
        quantisation=manifest.quantisation,
        fingerprint=manifest.fingerprint,
        tokenizer_hash=manifest.tokenizer_hash,
        end_tokens=frozenset(manifest.end_tokens),
        chat_template=manifest.chat_template,
    )
