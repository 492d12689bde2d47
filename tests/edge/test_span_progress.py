"""A span that is lost is taken up where it stood: its limit and its condition too."""

from __future__ import annotations

from updraft.sampling import Distribution, Sampled
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge import wire
from updraft_edge.seams import HandOver
from updraft_edge.span_progress import SpanProgress


def note(progress: SpanProgress, count: int) -> None:
    tokens = [Sampled(1, -1.0, Distribution(0.0, 2.0, 0.5))] * count
    progress.note(wire.Span(tokens, last=False, finish=None, spent=pb.Spent()))


def test_what_is_left_of_the_limit_shrinks_with_what_was_written() -> None:
    progress = SpanProgress(HandOver(most=20))
    log = TokenLog([1])
    assert progress.frame(log, 0).take_over.max_tokens == 20
    note(progress, 13)
    assert progress.frame(log, 0).take_over.max_tokens == 7
    note(progress, 7)
    assert progress.frame(log, 0).take_over.max_tokens == 1  # 0 would be no limit


def test_without_a_limit_none_is_sent() -> None:
    progress = SpanProgress(HandOver(threshold=1.0, window=4, min_stay=9))
    note(progress, 5)
    frame = progress.frame(TokenLog([1]), 0).take_over
    assert frame.max_tokens == 0
    assert (frame.hand_back.min_stay, list(frame.hand_back.recent)) == (4, [2.0] * 4)
