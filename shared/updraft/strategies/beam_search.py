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
    """Of as many candidates as the budget's samples, samples / expand are kept after every step, each of which goes on
    in `expand` ways. Answers that have ended compete once; kept ones are set aside, and the beam is that much narrower.

    Attributes:
        expand: ways to go on from one path.
        per_parent: candidates of one parent that may be kept, at most, so that the beam stays diverse; None: all.
    """

    name: ClassVar[str] = "beam-search"

    expand: int = Field(4, ge=1, le=64)
    per_parent: int | None = Field(None, ge=1, le=64)

    async def solve(self, work: Workspace) -> Outcome:
        walk = Walk(work, self.step_tokens)
        width, ways = max(1, work.budget.samples // self.expand), min(self.expand, work.budget.samples)
        candidates = [Path(work.start()) for _ in range(work.budget.samples)]
        parents = list(range(len(candidates)))  # the prompt is nobody's share
        done: list[Path] = []
        while True:
            await walk.step(candidates)
            kept = self._keep(walk, candidates, parents, width - len(done))
            done += [path for path in kept if not walk.open([path])]
            beam = walk.open(kept)
            if not beam or len(done) >= width or walk.over:
                break
            candidates = [child for path in beam for child in [path, *(walk.fork(path) for _ in range(ways - 1))]]
            parents = [index for index in range(len(beam)) for _ in range(ways)]
        await walk.finish(beam)
        found = [walk.candidate(path) for path in [*done, *beam]]
        return decide(work, [*found, *await walk.given()], self.choose)

    def _keep(self, walk: Walk, candidates: Sequence[Path], parents: Sequence[int], width: int) -> list[Path]:
        parent_of = dict(zip(candidates, parents, strict=True))
        distinct = walk.distinct(candidates)
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
