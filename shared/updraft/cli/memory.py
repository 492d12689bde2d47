"""Memory that a model's caches take, and what the machine has."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_bytes", "memory_bytes", "usable_cores"]

BYTES_A_NUMBER = 2  # keys and values are kept in 16 bits
STAGED_BYTES = 4  # by the ONNX engine in 32


def cache_bytes(path: Path, context: int, sequences: int) -> int:
    """Bytes of all key and value caches: 2 bytes x tokens x layers x key-value heads x (key + value length).

    A staged folder's caches take 4 bytes a number, and each of its exits is one layer more.

    Raises:
        ModelNotFound, BadModelFile.
    """
    if path.is_dir():
        from updraft.models.staged import read_manifest

        staged = read_manifest(path)
        layers = staged.layers + len(staged.exits)
        return STAGED_BYTES * context * sequences * layers * staged.kv_heads * 2 * staged.head_size
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
    return BYTES_A_NUMBER * context * sequences * all_heads * length


def memory_bytes() -> int | None:
    """The machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
