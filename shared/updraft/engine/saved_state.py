"""Saved sequences: an engine's bytes behind a small header that is checked before native code sees them."""

from __future__ import annotations

import hashlib
import struct

from updraft.errors import InvalidRequest

__all__ = ["pack_state", "unpack_state"]

_MAGIC = b"updraft\x01"
_HEADER = struct.Struct("<8s32sIIQ32s")  # magic, owner, sequences, length, payload bytes, payload digest


def pack_state(payload: bytes, *, fingerprint: str, sequences: int, length: int) -> bytes:
    """An engine's bytes of a sequence of `length` tokens, marked with the model and the layout that wrote them.

    `sequences` is how many the engine has, where the bytes depend on it, else 0.
    """
    digest = hashlib.sha256(payload).digest()
    header = _HEADER.pack(_MAGIC, _owner(fingerprint), sequences, length, len(payload), digest)
    return header + payload


def unpack_state(state: bytes, *, fingerprint: str, sequences: int, context: int) -> tuple[int, bytes]:
    """Length in tokens and the engine's bytes.

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


def _owner(fingerprint: str) -> bytes:
    return hashlib.sha256(fingerprint.encode()).digest()
