"""How much memory a model's key and value caches take, by its file."""

from __future__ import annotations

from pathlib import Path

__all__ = ["cache_bytes", "position_bytes"]

BYTES_A_NUMBER = 2  # keys and values are kept in 16 bits
STAGED_BYTES = 4  # by the ONNX engine in 32
_GRAIN = 256  # llama.cpp rounds a sequence's positions up to a multiple of this


def cache_bytes(path: Path, context: int, sequences: int, *, dtype: str | None = None) -> int:
    """Bytes of the caches of so many sequences of `context` tokens, as the engine takes them.

    `dtype` is the type that torch computes a Hugging Face folder in, where that is not the files' own.

    Raises:
        ModelNotFound, BadModelFile.
    """
    positions = context if path.is_dir() else -(-context // _GRAIN) * _GRAIN
    return position_bytes(path, dtype=dtype) * positions * sequences


def position_bytes(path: Path, *, dtype: str | None = None) -> int:
    """Bytes of one position in a cache: 2 bytes x layers x key-value heads x (key + value length).

    A staged folder's caches take 4 bytes a number, and each of its exits is one layer more. Those of a Hugging Face
    folder have the type that it is computed in.

    Raises:
        ModelNotFound, BadModelFile.
    """
    if path.is_dir():
        from updraft.models.hf import is_hf_folder

        if is_hf_folder(path):
            return _hf_position_bytes(path, dtype)
        from updraft.models.staged import read_manifest

        staged = read_manifest(path)
        return STAGED_BYTES * (staged.layers + len(staged.exits)) * staged.kv_heads * 2 * staged.head_size
    from updraft.models.gguf_header import Array, open_header

    with open_header(path) as header:
        architecture = header.values["general.architecture"]

        def number(name: str, default: int) -> int:
            value = header.values.get(f"{architecture}.{name}", default)
            return int(value) if isinstance(value, (int, float)) else default

        layers, width, heads = (
            number("block_count", 1),
            number("embedding_length", 1),
            number("attention.head_count", 1),
        )
        counts = header.values.get(f"{architecture}.attention.head_count_kv", heads)
        # One number for all layers, or one for each.
        all_heads = sum(map(int, header.numbers(counts))) if isinstance(counts, Array) else layers * int(counts)
        length = number("attention.key_length", width // heads) + number("attention.value_length", width // heads)
    return BYTES_A_NUMBER * all_heads * length


def _hf_position_bytes(path: Path, dtype: str | None) -> int:
    from updraft.models.hf import open_folder
    from updraft.models.hf.files import ITEM_BYTES

    folder = open_folder(path)
    number = ITEM_BYTES[folder.kind] if dtype is None else STAGED_BYTES if dtype == "float32" else BYTES_A_NUMBER
    return number * folder.config.layers * folder.config.kv_heads * 2 * folder.config.head_size
