"""Saved sequences: llama.cpp's bytes behind a small header that is checked before native code sees them."""

from __future__ import annotations

import ctypes
import hashlib
import struct
from typing import Any

from updraft.errors import EngineFailure, InvalidRequest

__all__ = ["pack_state", "read_sequence", "unpack_state", "write_sequence"]

_MAGIC = b"updraft\x01"
_HEADER = struct.Struct("<8s32sIIQ32s")  # magic, owner, sequences, length, payload bytes, payload digest


def pack_state(payload: bytes, *, fingerprint: str, sequences: int, length: int) -> bytes:
    """llama.cpp's bytes of a sequence of `length` tokens, marked with the model and the layout that wrote them."""
    digest = hashlib.sha256(payload).digest()
    header = _HEADER.pack(_MAGIC, _owner(fingerprint), sequences, length, len(payload), digest)
    return header + payload


def unpack_state(state: bytes, *, fingerprint: str, sequences: int, context: int) -> tuple[int, bytes]:
    """Length in tokens and llama.cpp's bytes.

    Raises:
        InvalidRequest: damaged, or saved by another model or another layout.
    """
    if len(state) < _HEADER.size:
        raise InvalidRequest(f"saved state of {len(state)} bytes is shorter than its {_HEADER.size}-byte header")
    magic, owner, saved_sequences, length, size, digest = _HEADER.unpack_from(state)
    payload = state[_HEADER.size :]
    if magic != _MAGIC:
        raise InvalidRequest("these bytes are not a saved sequence of this version of Updraft")
    if owner != _owner(fingerprint):
        raise InvalidRequest("the saved sequence belongs to another model")
    if saved_sequences != sequences:
        raise InvalidRequest(
            f"the sequence was saved by an engine of {saved_sequences} sequences; this one has {sequences}",
            remedy="Restore into an engine with the same number of sequences, or prefill from the token log.",
        )
    if length > context:
        raise InvalidRequest(f"the saved sequence of {length} tokens does not fit a context of {context}")
    if size != len(payload) or digest != hashlib.sha256(payload).digest():
        raise InvalidRequest("the saved sequence is damaged: its digest does not match")
    return length, payload


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


def _owner(fingerprint: str) -> bytes:
    return hashlib.sha256(fingerprint.encode()).digest()
