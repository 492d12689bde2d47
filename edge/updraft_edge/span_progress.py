"""What an answer has seen of a span that the cloud writes."""

from __future__ import annotations

from collections import deque

from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge import wire
from updraft_edge.seams import HandOver

__all__ = ["SpanProgress"]


class SpanProgress:
    """What a span has seen of its hand-back condition, so that a lost span is taken up where it stood."""

    def __init__(self, condition: HandOver) -> None:
        self._condition = condition
        self._written = 0
        self._entropies: deque[float] = deque(maxlen=condition.window)

    def note(self, span: wire.Span) -> None:
        self._written += len(span.tokens)
        self._entropies.extend(sampled.distribution.entropy for sampled in span.tokens)

    def frame(self, log: TokenLog, synced: int, room: int | None = None) -> pb.EdgeFrame:
        """The frame that begins the span, or takes it up again; the cloud has the log's first `synced` tokens.

        `room` is what may still be spent, tokens.
        """
        step_written = self._written if self._condition.step else None
        return wire.take_over_frame(log, synced, self._hand_back(), self._left(room), step_written=step_written)

    def _hand_back(self) -> pb.HandBack | None:
        condition = self._condition
        if condition.threshold is None:
            return None
        return pb.HandBack(
            threshold=condition.threshold,
            window=condition.window,
            min_stay=max(0, condition.min_stay - self._written),
            recent=self._entropies,
        )

    def _left(self, room: int | None) -> int:
        """Tokens that the span may still get; 0 for no limit. A limit that is reached leaves 1: the span has ended."""
        most = self._condition.most
        limits = [left for left in (None if most is None else most - self._written, room) if left is not None]
        return max(1, min(limits)) if limits else 0
