"""A*-decoding: the most promising beginning of an answer is written on first, whichever it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Final, Literal

from pydantic import Field

from updraft.strategies.particle_weights import EPSILON
from updraft.strategies.problem import Outcome
from updraft.strategies.stepwise import Path, Stepwise, Walk, decide
from updraft.strategies.workspace import Workspace

__all__ = ["AStar", "Frontier", "loss"]

_AGAIN: Final = math.log(
    10
)  # having gone on from a path before; simulated chains told 4 from 20 not apart, 2 was worse


class AStar(Stepwise):
    """Best-first search over steps with f = g + h: g = -sum of ln reward over the steps so far, h = -ln of the last
    reward times the steps that are estimated to be missing. The published method leaves g and h open; these are ours.

    A path is expanded into `branches` ways to go on by a step. It stays in the queue itself, behind children that are
    any good: each time it was expanded counts as a step with a reward of 1/10. The budget's samples are answers' worth
    of steps: what is drawn stays within samples x the steps of the deepest path, so that it costs about as much as so
    many whole answers, and less where the search reaches its goal before. Where the best path is not within that, the
    best that is goes on: the deepest, which makes room again. Where no answer is whole at the end, the best path is
    written to its end.

    Attributes:
        branches: ways to go on from one path; at most half of the budget's samples, so that some steps are left.
        heuristic: remaining takes the mean length of whole answers so far, 0 before there are any; none makes h 0.
        goals: whole answers that must come to the top of the queue before the search ends.
    """

    name: ClassVar[str] = "a-star"

    branches: int = Field(default=2, ge=1, le=64)
    heuristic: Literal["remaining", "none"] = "remaining"
    goals: int = Field(default=1, ge=1, le=64)

    async def solve(self, work: Workspace) -> Outcome:
        walk = Walk(work, self.step_tokens)
        frontier = Frontier(estimating=self.heuristic == "remaining")
        frontier.push([Path(work.start())])
        said: set[tuple[int, ...]] = set()
        taken: list[Path] = []  # from the top of the queue, because they cannot be written on
        while not walk.over and sum(path.branch.ended for path in taken) < self.goals:
            ways = [self._ways(walk, frontier, path) for path in frontier.paths]
            first = next((index for index, most in enumerate(ways) if most), None)
            if first is None:
                break
            best = frontier.pop(first)
            if not walk.open([best]):
                taken.append(best)
                continue
            stays = replace(walk.fork(best), expanded=best.expanded + 1)
            children = [replace(best, expanded=0), *(walk.fork(best) for _ in range(ways[first] - 1))]
            await walk.step(children)
            frontier.push([stays, *walk.distinct(children, said)])
            for path in frontier.trim(max(work.budget.samples, self.branches)):
                walk.drop(path)
        answers = [*taken, *(path for path in frontier.paths if path.branch.ended)]
        if not answers:
            answers = list(frontier.paths[:1])
            await walk.finish(answers)
        found = [walk.candidate(path, _mean(path)) for path in answers]
        return decide(work, [*found, *await walk.given()], self.choose)

    def _ways(self, walk: Walk, frontier: Frontier, path: Path) -> int:
        """Into how many a path may be expanded, within the budget's steps; 1 for one that has ended."""
        if not walk.open([path]):
            return 1
        samples = walk.work.budget.samples
        most = min(samples, max(2, samples // 2))
        left = samples * max(frontier.deepest, len(path.steps) + 1) - walk.drawn
        return max(0, min(self.branches, most, left))


class Frontier:
    """The queue of paths, the most promising first; of equals, the one that was made first.

    Attributes:
        deepest: steps of the longest path that ever was in it.
    """

    def __init__(self, *, estimating: bool) -> None:
        self.deepest = 0
        self._estimating = estimating
        self._paths: list[Path] = []
        self._lengths: list[int] = []  # of answers that have ended, in steps

    @property
    def paths(self) -> Sequence[Path]:
        return self._paths

    def push(self, paths: Sequence[Path]) -> None:
        self._paths += paths
        self._lengths += [len(path.steps) for path in paths if path.branch.ended]
        self.deepest = max([self.deepest, *(len(path.steps) for path in paths)])
        # All are sorted anew: what an answer is estimated to take has changed with those that have ended.
        self._paths.sort(key=lambda path: (self.cost(path), path.branch.number))

    def pop(self, index: int) -> Path:
        return self._paths.pop(index)

    def trim(self, most: int) -> list[Path]:
        """Take the least promising out until so many are left."""
        worst = self._paths[most:]
        del self._paths[most:]
        return worst

    def cost(self, path: Path) -> float:
        """f = g + h, nats."""
        missing = 0.0
        if path.steps and self._lengths and self._estimating and not path.branch.ended:
            missing = max(1.0, sum(self._lengths) / len(self._lengths) - len(path.steps))
        return loss(path) + path.expanded * _AGAIN - (missing * math.log(max(path.reward, EPSILON)) if missing else 0.0)


def loss(path: Path) -> float:
    """g: -sum of ln reward over a path's steps, nats."""
    return -sum(math.log(max(step.reward, EPSILON)) for step in path.steps)


def _mean(path: Path) -> float:
    """Geometric mean of a path's rewards: what answers of all lengths are compared by."""
    return math.exp(-loss(path) / len(path.steps)) if path.steps else path.reward
