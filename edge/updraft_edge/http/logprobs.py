"""Log-probabilities in the two shapes of OpenAI's API."""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Sequence
from typing import Any

from updraft.generation import TokenEvent
from updraft_edge.http.extension import finite

__all__ = ["ChatLogprobs", "CompletionLogprobs", "Piece"]

Piece = Callable[[int], bytes]
"""The bytes that a token id stands for."""


class ChatLogprobs:
    """`/v1/chat/completions`: a list of objects, each token as text and as bytes."""

    def __init__(self, piece: Piece) -> None:
        self._piece = piece

    def take(self, events: Sequence[TokenEvent]) -> dict[str, Any]:
        """The value of `logprobs` for the next tokens of a choice."""
        return {"content": [self._entry(event) for event in events], "refusal": None}

    def _entry(self, event: TokenEvent) -> dict[str, Any]:
        top = [_scored(self._piece(token), logprob) for token, logprob in event.top]
        return {**_scored(event.piece, event.logprob), "top_logprobs": top}


def _scored(piece: bytes, logprob: float) -> dict[str, Any]:
    return {"token": piece.decode("utf-8", "replace"), "logprob": finite(logprob), "bytes": list(piece)}


class CompletionLogprobs:
    """`/v1/completions`: four lists of equal length. One object a choice: it counts the characters so far.

    A token that is no text of its own reads `bytes:\\xe2\\x82`; it begins where its character will stand.
    """

    def __init__(self, piece: Piece) -> None:
        self._piece = piece
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def take(self, events: Sequence[TokenEvent]) -> dict[str, Any]:
        """The value of `logprobs` for the next tokens of a choice."""
        offsets = []
        for event in events:
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(event.piece))
        return {
            "tokens": [_readable(event.piece) for event in events],
            "token_logprobs": [finite(event.logprob) for event in events],
            "top_logprobs": [None if math.isnan(event.logprob) else self._top(event) for event in events],
            "text_offset": offsets,
        }

    def _top(self, event: TokenEvent) -> dict[str, float | None]:
        """Most likely tokens first, then the token itself if it is none of them."""
        top = {_readable(self._piece(token)): finite(logprob) for token, logprob in event.top}
        top.setdefault(_readable(event.piece), finite(event.logprob))
        return top


def _readable(piece: bytes) -> str:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
