"""Schedules of faults as hypothesis draws and shrinks them."""

from __future__ import annotations

from hypothesis import strategies as some

from bench.fault_schedule import BYTE_KINDS, FRAME_KINDS, MODES, Fault, Schedule

__all__ = ["faults", "schedules"]


def faults(*, longest: int = 24) -> some.SearchStrategy[Fault]:
    """Faults at one of the first `longest` frames or pieces of bytes; nothing waits longer than 30 ms."""
    at, ways = some.integers(1, longest), some.sampled_from(("up", "down"))
    sizes = some.integers(0, 30)
    frames = some.builds(
        Fault, some.just("frame"), ways, some.sampled_from(FRAME_KINDS), at, size=sizes, fit=some.booleans()
    )
    pieces = some.builds(Fault, some.just("bytes"), ways, some.sampled_from(BYTE_KINDS), at, size=sizes)
    return frames | pieces


def schedules(*, tokens: int = 16, most: int = 4) -> some.SearchStrategy[Schedule]:
    """Schedules of up to `most` faults, without failpoints."""
    return some.builds(
        Schedule,
        seed=some.integers(0, 20),
        mode=some.sampled_from(MODES),
        temperature=some.sampled_from((0.0, 0.8)),
        tokens=some.just(tokens),
        faults=some.lists(faults(), max_size=most).map(tuple),
    )
