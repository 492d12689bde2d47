"""A `HashEngine` whose tokens are bytes, so that any text can be said."""

from __future__ import annotations

from typing import Any

from tests.fakes.engine import HashEngine

__all__ = ["END", "ByteTokenizer", "byte_engine"]

END = 256


class ByteTokenizer:
    """One token a byte; token 256 ends an answer."""

    def encode(self, text: str, *, special: bool = False, start: bool = False) -> list[int]:
        return list(text.encode())

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < END else b""

    def written(self, token: int) -> str:
        return "<end>" if token == END else bytes([token]).decode("latin-1")


def byte_engine(**changes: Any) -> HashEngine:
    """An engine of 257 tokens; `changes` are HashEngine's."""
    engine = HashEngine(**{"vocabulary": END + 1, "context": 2048, "tokenizer_hash": "bytes", **changes})
    engine.tokenizer = ByteTokenizer()  # type: ignore[assignment]
    return engine
