"""Runs one strategy on one problem, and leaves nothing behind however it ends."""

from __future__ import annotations

from collections.abc import Callable

from updraft.strategies.base import Strategy
from updraft.strategies.branches import Forks
from updraft.strategies.problem import Budget, Outcome, Problem, Progress
from updraft.strategies.workspace import Workspace
from updraft.verifiers.base import Verifier

__all__ = ["solve"]


async def solve(
    problem: Problem,
    strategy: Strategy,
    budget: Budget,
    forks: Forks,
    *,
    verifier: Verifier | None = None,
    note: Callable[[Progress], None] = lambda progress: None,
    runs_code: bool = False,
) -> Outcome:
    """Work a strategy through. `forks` is closed at the end, also where the work is cancelled.

    Args:
        runs_code: programs that the model writes may be run here, in a sandbox.

    Raises:
        ConfigError: the strategy needs something that is not there.
        EngineFailure, Overloaded: the engine cannot go on.
    """
    try:
        work = Workspace(strategy.prepared(problem), budget, forks, verifier, note, runs_code=runs_code)
        strategy.check(work)
        return await strategy.solve(work)
    finally:
        await forks.close()
