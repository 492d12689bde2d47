"""Beam search over steps: the best beginnings of an answer go on, each in several ways (Snell et al., arXiv
2408.03314, section 5.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from updraft.strategies.problem import Outcome
from updraft.strategies.stepwise import Path, Stepwise, Walk, decide
from updraft.strategies.workspace import Workspace

__all__ = ["BeamSearch", "survivors"]


class BeamSearch(Stepwise):
    """Of as many candidates as the budget's samples, samples / expand are kept after every step, and go on in `expand`
    ways each, or more where they are fewer: candidates that say the same are one. Answers that have ended compete once;
    kept ones are set aside, and the beam is that much narrower.

    Attributes:
        expand: ways to go on from one path.
        per_parent: candidates of one parent that may be kept, at most, so that the beam stays diverse; None: all.
    """

    name: ClassVar[str] = "beam-search"

    expand: int = Field(default=4, ge=1, le=64)
    per_parent: int | None = Field(default=None, ge=1, le=64)

    async def solve(self, work: Workspace) -> Outcome:
        walk = Walk(work, self.step_tokens)
        samples = work.budget.samples
        width = max(1, samples // self.expand)
        candidates = [Path(work.start()) for _ in range(samples)]
        parents = list(range(samples))  # the prompt is nobody's share
        done: list[Path] = []
        while True:
            await walk.step(candidates)
            kept = self._keep(walk, candidates, parents, width - len(done))
            done += [path for path in kept if not walk.open([path])]
            beam = walk.open(kept)
            if not beam or len(done) >= width or walk.over:
                break
            parents = sorted(place % len(beam) for place in range(samples * (width - len(done)) // width))
            candidates = [
                walk.fork(beam[parent]) if place and parents[place - 1] == parent else beam[parent]
                for place, parent in enumerate(parents)
            ]
        await walk.finish(beam)
        found = [walk.candidate(path) for path in [*done, *beam]]
        return decide(work, [*found, *await walk.given()], self.choose)

    def _keep(self, walk: Walk, candidates: Sequence[Path], parents: Sequence[int], width: int) -> list[Path]:
        parent_of = dict(zip(candidates, parents, strict=True))
        distinct = walk.distinct(candidates, set())
        rewards = [path.reward for path in distinct]
        kept = survivors(rewards, [parent_of[path] for path in distinct], width, self.per_parent)
        for index, path in enumerate(distinct):
            if index not in kept:
                walk.drop(path)
        return [distinct[index] for index in kept]


def survivors(rewards: Sequence[float], parents: Sequence[int], width: int, per_parent: int | None) -> list[int]:
    """Indices of the best `width` candidates, the best first, at most `per_parent` of one parent; of equals, the
    earlier."""
    kept: list[int] = []
    families: Counter[int] = Counter()
    for index in sorted(range(len(rewards)), key=lambda index: -rewards[index]):
        if len(kept) < width and (per_parent is None or families[parents[index]] < per_parent):
            kept.append(index)
            families[parents[index]] += 1
    return kept
