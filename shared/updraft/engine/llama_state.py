"""What llama.cpp keeps of a sequence, out of and into its context."""

from __future__ import annotations

import ctypes
from typing import Any

from updraft.errors import EngineFailure

__all__ = ["read_sequence", "write_sequence"]


def write_sequence(lib: Any, context: Any, sequence: int) -> bytes:
    """What llama.cpp keeps of a sequence.

    Raises:
        EngineFailure: native code failed.
    """
    size = lib.llama_state_seq_get_size(context, sequence)
    buffer = (ctypes.c_uint8 * size)()
    written = lib.llama_state_seq_get_data(context, buffer, size, sequence)
    if written != size:
        raise EngineFailure(f"llama.cpp saved {written} of {size} bytes of sequence {sequence}")
    return bytes(buffer)


def read_sequence(lib: Any, context: Any, sequence: int, payload: bytes) -> int:
    """Put such bytes into a sequence; gives how many llama.cpp has read, 0 when it refuses them."""
    pointer = ctypes.cast(ctypes.c_char_p(payload), ctypes.POINTER(ctypes.c_uint8))
    read: int = lib.llama_state_seq_set_data(context, pointer, len(payload), sequence)
    return read
