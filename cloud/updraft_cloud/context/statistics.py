"""What the context manager has done, as numbers for metrics."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ContextStatistics"]


@dataclass(slots=True)
class ContextStatistics:
    """Counts since the start, and what is held now (the first seven).

    Attributes:
        sessions: joined now; of them `resident` have a sequence and `waiting` want one.
        prefixes: sequences that hold the cache of a session that has ended.
        copies: sequences lent for branches of trees.
        host_bytes, disk_bytes: of states that are spilled now.
        spilled_host, spilled_disk, kept, dropped: caches that had to go, by what became of them: saved to host memory,
            moved or saved to disk, left to a state that was saved before, or forgotten.
        restored: caches brought back from host memory or disk.
        rebuilt_positions: positions that have to be computed again after a cache was dropped.
        prefix_hits: sessions that began with another's cache; `reused_positions` is what they did not compute.
        finished: sessions whose cache stayed as a prefix; with `prefix_hits` the chance that one is used again.
        faults: checks of integrity that found something wrong, which only a mistake in this program can cause.
        failures: states that could not be saved, written, read or restored; each was dropped.
    """

    sessions: int = 0
    resident: int = 0
    waiting: int = 0
    prefixes: int = 0
    copies: int = 0
    host_bytes: int = 0
    disk_bytes: int = 0
    spilled_host: int = 0
    spilled_disk: int = 0
    kept: int = 0
    dropped: int = 0
    restored: int = 0
    rebuilt_positions: int = 0
    prefix_hits: int = 0
    reused_positions: int = 0
    finished: int = 0
    faults: int = 0
    failures: int = 0
