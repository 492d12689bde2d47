"""What a model of any kind says about itself: a GGUF file, a staged folder or a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from updraft.engine.base import ModelInfo
from updraft.models.gguf_info import read_model_info

__all__ = ["model_info"]


def model_info(path: Path) -> ModelInfo:
    """Read a GGUF file's header, a staged folder's manifest or a Hugging Face folder; needs no backend's library.

    Raises:
        ModelNotFound: nothing is there.
        BadModelFile: it is none of them, or of an architecture that is not supported.
    """
    if not path.is_dir():
        return read_model_info(path)
    from updraft.models.hf import hf_info, is_hf_folder

    if is_hf_folder(path):
        return hf_info(path)
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
