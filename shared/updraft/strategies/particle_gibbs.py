"""Particle Gibbs (Puri et al., arXiv 2502.01618, section 3.3; Andrieu, Doucet, Holenstein, 2010): particle filters one
after another, each beside an answer of the one before."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from updraft.strategies.particle_filtering import ParticleFiltering
from updraft.strategies.particle_weights import multinomial, odds_weights
from updraft.strategies.problem import Outcome
from updraft.strategies.stepwise import Candidate, Path, Walk, decide
from updraft.strategies.workspace import Workspace

__all__ = ["ParticleGibbs"]


class ParticleGibbs(ParticleFiltering):
    """The budget's samples are the particles of all iterations together. After each, a path is drawn by weight and
    kept: in the next its beginning competes at every step with the new particles, which may go on from it. All
    iterations' answers are chosen from.

    Attributes:
        iterations: at most; each has at least two particles.
    """

    name: ClassVar[str] = "particle-gibbs"

    iterations: int = Field(default=2, ge=1, le=64)

    async def solve(self, work: Workspace) -> Outcome:
        walk = Walk(work, self.step_tokens)
        rounds = max(1, min(self.iterations, work.budget.samples // 2))
        candidates: list[Candidate] = []
        reference: Path | None = None
        for number in range(rounds):
            count = (work.budget.samples + number) // rounds
            particles = await self.sweep(walk, [Path(work.start()) for _ in range(count)], reference)
            candidates += [walk.candidate(path) for path in particles]
            if walk.over:
                break
            reference = self._keep(walk, particles if reference is None else [reference, *particles])
        return decide(work, [*candidates, *await walk.given()], self.choose, self.temperature)

    def _keep(self, walk: Walk, paths: list[Path]) -> Path:
        """Draw the next reference and drop the others."""
        weights = odds_weights([path.reward for path in paths], self.temperature)
        [kept] = multinomial(weights, walk.uniforms(1))
        for index, path in enumerate(paths):
            if index != kept:
                walk.drop(path)
        return paths[kept]
