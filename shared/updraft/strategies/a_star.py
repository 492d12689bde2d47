"""A*-decoding: the most promising beginning of an answer is written on first, whichever it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from updraft.strategies.particle_weights import EPSILON
from updraft.strategies.problem import Outcome
from updraft.strategies.stepwise import Path, Stepwise, Walk, decide
from updraft.strategies.workspace import Workspace

__all__ = ["AStar", "Frontier"]


class AStar(Stepwise):
    """Best-first search over steps with f = g + h: g = -sum of ln reward over the steps so far, h = -ln of the last
    reward times the steps that are estimated to be missing. The published method leaves g and h open; these are ours.

    A path is expanded into `branches` ways to go on by a step. The budget's samples are answers' worth of steps: what
    is drawn stays within samples x the steps of the deepest path, so that it costs about as much as so many whole
    answers, and less where the search reaches its goal before. Where it ends without an answer, the best path is
    written to its end.

    Attributes:
        branches: ways to go on from one path, at most the budget's samples.
        heuristic: remaining takes the mean length of whole answers so far, 0 before there are any; none makes h 0.
        goals: whole answers that must come to the top of the queue before the search ends.
    """

    name: ClassVar[str] = "a-star"

    branches: int = Field(4, ge=1, le=64)
    heuristic: Literal["remaining", "none"] = "remaining"
    goals: int = Field(1, ge=1, le=64)

    async def solve(self, work: Workspace) -> Outcome:
        walk = Walk(work, self.step_tokens)
        frontier = Frontier(estimating=self.heuristic == "remaining")
        frontier.push([Path(work.start())])
        taken: list[Path] = []  # from the top of the queue, because they cannot be written on
        while frontier.paths and not walk.over and sum(path.branch.ended for path in taken) < self.goals:
            best = frontier.pop()
            if not walk.open([best]):
                taken.append(best)
            elif ways := self._ways(walk, frontier, best):
                children = [best, *(walk.fork(best) for _ in range(ways - 1))]
                await walk.step(children)
                frontier.push(walk.distinct(children))
                for path in frontier.trim(max(work.budget.samples, self.branches)):
                    walk.drop(path)
            else:
                frontier.push([best])
                break
        if not any(path.branch.ended for path in [*taken, *frontier.paths]):
            await walk.finish(frontier.paths[:1])
        candidates = [walk.candidate(path) for path in [*taken, *frontier.paths]]
        return decide(work, [*candidates, *await walk.given()], self.choose)

    def _ways(self, walk: Walk, frontier: Frontier, best: Path) -> int:
        """Into how many a path may be expanded; 0 where the budget's steps are used up."""
        samples = walk.work.budget.samples
        left = samples * max(frontier.deepest, len(best.steps) + 1) - walk.drawn
        return max(0, min(self.branches, samples, left))


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

    def pop(self) -> Path:
        return self._paths.pop(0)

    def trim(self, most: int) -> list[Path]:
        """Take the least promising out until so many are left."""
        worst = self._paths[most:]
        del self._paths[most:]
        return worst

    def cost(self, path: Path) -> float:
        """f = g + h, nats."""
        losses = [-math.log(max(step.reward, EPSILON)) for step in path.steps]
        missing = 0.0
        if losses and self._lengths and self._estimating and not path.branch.ended:
            missing = max(1.0, sum(self._lengths) / len(self._lengths) - len(losses))
        return sum(losses) + (losses[-1] * missing if missing else 0.0)
