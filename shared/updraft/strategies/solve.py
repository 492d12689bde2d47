"""Runs one strategy on one problem, and leaves nothing behind however it ends."""

from __future__ import annotations

from collections.abc import Callable

from updraft.errors import ConfigError
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
        ConfigError: the strategy needs a verifier, or one that judges steps, and has none.
        EngineFailure, Overloaded: the engine cannot go on.
    """
    try:
        _check(strategy, verifier)
        return await strategy.solve(Workspace(problem, budget, forks, verifier, note, runs_code=runs_code))
    finally:
        await forks.close()


def _check(strategy: Strategy, verifier: Verifier | None) -> None:
    if strategy.needs_verifier and verifier is None:
        raise ConfigError(
            f"The strategy {strategy.name} needs a verifier.", remedy="Name one, or choose another strategy."
        )
    if strategy.needs_steps and not (verifier and verifier.judges_steps):
        raise ConfigError(
            f"The strategy {strategy.name} needs a verifier that judges steps.",
            remedy="Name a process reward model, or choose another strategy.",
        )
