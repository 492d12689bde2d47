"""Which waiting runs share a pass: those that are likely to need the same experts (ExpertFlow, Read-ME)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

import numpy as np

from updraft.engine.base import Run
from updraft.engine.scheduler import Grouping
from updraft_cloud.experts.policies.base import Floats, Forecaster, Ints
from updraft_cloud.experts.policies.forecast import any_of

__all__ = ["ExpertOverlap", "TokenForecaster", "best_company", "choose_together", "grouping_of", "overlap_of"]

_MOST: Final = 64  # waiting runs that are looked at; the longest waiting


def best_company(missing: Floats, chances: Floats, sizes: Sequence[int], room: int) -> list[int]:
    """Runs in the order in which they had better join a pass, as far as there is room.

    Always the one that adds the fewest expected experts for each of its tokens: a greedy cover in place of ExpertFlow's
    clusters, for runs may not be torn apart.

    Args:
        missing: chance that no run of the pass needs each expert yet, shape (keys,).
        chances: that each waiting run needs each expert, shape (runs, keys), in order of arrival.
        sizes: tokens of each of them.
        room: tokens that the pass still takes.
    """
    chosen: list[int] = []
    left = list(range(len(sizes)))
    while fitting := [run for run in left if sizes[run] <= room]:
        added = (chances[fitting] @ missing) / np.array([max(1, sizes[run]) for run in fitting])
        best = fitting[int(added.argmin())]
        chosen.append(best)
        left.remove(best)
        room -= sizes[best]
        missing = missing * (1.0 - chances[best])
    return chosen


def choose_together(chances: Floats, sizes: Sequence[int], most: int) -> list[int]:
    """Runs for the next pass: the longest waiting always goes, so none waits for ever, and its best company.

    Args:
        chances, sizes: as of `best_company`.
        most: tokens of a pass; the first run goes even if it has more.
    """
    if not sizes:
        return []
    company = best_company(1.0 - chances[0], chances[1:], sizes[1:], most - sizes[0])
    return sorted([0, *(run + 1 for run in company)])


@runtime_checkable
class TokenForecaster(Forecaster, Protocol):
    """A forecaster that speaks of single tokens."""

    def chances(self, tokens: Ints) -> Floats:
        """Chance of each expert for each token, shape (tokens, layers x experts)."""
        ...


class ExpertOverlap:
    """An `updraft.engine.scheduler.Grouping` by what a forecaster says of each run's tokens."""

    def __init__(self, forecaster: TokenForecaster) -> None:
        self._forecaster = forecaster

    def __call__(self, placed: Sequence[Run], waiting: Sequence[Run], room: int) -> list[int]:
        needs = np.stack([self._needs(run) for run in (*placed, *waiting[:_MOST])])
        missing = np.prod(1.0 - needs[: len(placed)], axis=0)
        return best_company(missing, needs[len(placed) :], [len(run.tokens) for run in waiting[:_MOST]], room)

    def _needs(self, run: Run) -> Floats:
        """Chance of each expert that the run needs it, shape (keys,)."""
        return any_of(self._forecaster.chances(np.array(run.tokens, np.int64)))


def overlap_of(forecaster: Forecaster) -> Grouping | None:
    """Groups by a forecaster, if it speaks of tokens."""
    return ExpertOverlap(forecaster) if isinstance(forecaster, TokenForecaster) else None


def grouping_of(engine: object) -> Grouping | None:
    """What an engine's expert store wants of the scheduler, if anything."""
    grouping: Grouping | None = getattr(getattr(engine, "experts", None), "grouping", None)
    return grouping
