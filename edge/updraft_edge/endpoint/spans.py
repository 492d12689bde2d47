"""What an endpoint writes, as spans of the edge's tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

from updraft.engine.base import Tokenizer
from updraft.errors import CloudUnavailable
from updraft.generation import FinishReason
from updraft.sampling import Distribution, Sampled
from updraft.steps import StepText
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge import wire
from updraft_edge.endpoint.stream import Piece
from updraft_edge.endpoint.text import TextEncoder, Unrepeated

__all__ = ["Spans"]

_NAN = math.nan  # nobody knows how probable the tokens were
_UNKNOWN = Distribution(_NAN, _NAN, _NAN)
_FINISH: dict[str, FinishReason] = {"length": "length"}  # every other reason is an end of its own


class Spans:
    """Text as spans of tokens. The last token waits, so that the end of the answer comes with a token."""

    def __init__(self, tokenizer: Tokenizer, so_far: str, ends: frozenset[int], *, step: bool) -> None:
        self._tokenizer = tokenizer
        self._encoder = TextEncoder(tokenizer)
        self._new = Unrepeated(so_far)
        self._ends = ends
        self._step = StepText() if step else None
        self._waiting: list[int] = []
        self._finish: str | None = None
        self.written = 0
        self.ended = False

    def feed(self, piece: Piece) -> list[wire.Span]:
        """Spans of the tokens that are certain now."""
        self._finish = piece.finish or self._finish
        return self._spans(self._encoder.feed(self._new.feed(piece.text)), keep=1)

    def flush(self) -> None:
        """Nothing more comes: what was held back may be taken by `rest` or `last`. Raises as `TextEncoder` does."""
        if not self.ended:
            self._spans(self._encoder.feed(self._new.flush()), keep=1 << 30)
        if not self.ended:
            self._spans(self._encoder.flush(), keep=1 << 30)

    def rest(self) -> list[wire.Span]:
        """What is left, where the endpoint broke off."""
        return self._spans([], keep=0)

    def last(self, *, final: bool) -> wire.Span:
        """The last span; a limit that is `final` is the answer's own.

        Raises CloudUnavailable where the endpoint wrote nothing and the answer has no end token to say so.
        """
        finish = _FINISH.get(self._finish or "", "stop")
        if not self._waiting:
            if not self._ends:
                raise CloudUnavailable("The endpoint's answer is empty.")
            self._take([min(self._ends)])
        last = self._step is not None and self._step.ended
        reason: FinishReason | None = None if last or (finish == "length" and not final) else finish
        return _span(self._waiting, last=True, finish=reason)

    def _take(self, tokens: Sequence[int]) -> None:
        self._waiting.extend(tokens)
        self.written += len(tokens)

    def _spans(self, tokens: Sequence[int], keep: int) -> list[wire.Span]:
        for token in tokens:
            self._take([token])
            if self._step is not None and self._step.feed(self._tokenizer.piece(token)):
                self.ended = True
                return [_span(self._waiting, last=True, finish=None)]
        cut = max(0, len(self._waiting) - keep)
        ready, self._waiting = self._waiting[:cut], self._waiting[cut:]
        return [_span(ready, last=False, finish=None)] if ready else []


def _span(tokens: Sequence[int], *, last: bool, finish: FinishReason | None) -> wire.Span:
    return wire.Span([Sampled(token, _NAN, _UNKNOWN) for token in tokens], last, finish, pb.Spent())
