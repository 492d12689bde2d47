"""Trees of drafts: a run, and branches that leave it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["Branches", "clipped", "ways"]

Branches = Sequence[tuple[int, Sequence[int]]]
"""For each branch: how many tokens it shares with the run, and its own tokens after those."""


def ways(run: Sequence[int], branches: Branches) -> list[list[int]]:
    """The run, then each branch from the tree's root on."""
    return [list(run), *([*run[:shared], *tokens] for shared, tokens in branches)]


def clipped(
    run: Sequence[int], branches: Branches, clip: Callable[[Sequence[int]], Sequence[int]]
) -> tuple[Sequence[int], Branches]:
    """A tree of which `clip` has shortened every way; branches that have nothing of their own left are dropped."""
    short = clip(run)
    kept = [(shared, clip([*run[:shared], *tokens])[shared:]) for shared, tokens in branches if shared <= len(short)]
    return short, [(shared, tokens) for shared, tokens in kept if tokens]
