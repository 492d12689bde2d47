"""Particle filtering (Puri et al., arXiv 2502.01618): answers compete a step at a time, the promising ones multiply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from updraft.strategies.particle_weights import multinomial, odds_weights, systematic
from updraft.strategies.problem import Outcome
from updraft.strategies.stepwise import Path, Stepwise, Walk, decide
from updraft.strategies.workspace import Workspace

__all__ = ["ParticleFiltering"]


class ParticleFiltering(Stepwise):
    """The budget's samples are particles. After every step all of them, the finished ones too, are drawn anew with
    replacement, with weights softmax(logit(reward) / T); copies share what was computed of them.

    Attributes:
        temperature: T; low values follow the verifier, high ones keep more ways open.
        start_temperature: T before the first step; it falls to `temperature` within `anneal_steps`. None: it does not.
        resampling: systematic has less variance.
    """

    name: ClassVar[str] = "particle-filtering"

    temperature: float = Field(default=1.0, gt=0, le=100)
    start_temperature: float | None = Field(default=None, gt=0, le=100)
    anneal_steps: int = Field(default=8, ge=1, le=1000)
    resampling: Literal["systematic", "multinomial"] = "systematic"

    async def solve(self, work: Workspace) -> Outcome:
        walk = Walk(work, self.step_tokens)
        particles = [Path(work.start()) for _ in range(work.budget.samples)]
        particles = await self.sweep(walk, particles)
        candidates = [walk.candidate(path) for path in particles]
        return decide(work, [*candidates, *await walk.given()], self.choose, self.temperature)

    async def sweep(self, walk: Walk, particles: list[Path], reference: Path | None = None) -> list[Path]:
        """Take particles to their ends; comes back with as many.

        Args:
            reference: a path that is written already and competes at every step with its beginning of that length.
        """
        depth = 0
        while walk.open(particles) and not walk.over:
            await walk.step(particles)
            depth += 1
            if walk.open(particles) and not walk.over:
                particles = self._resample(walk, particles, reference, depth)
                walk.whole = any(path.branch.ended for path in particles)
        await walk.finish(particles)
        return particles

    def heat(self, depth: int) -> float:
        """T after so many steps."""
        if self.start_temperature is None:
            return self.temperature
        left = max(0.0, 1 - depth / self.anneal_steps)
        return self.temperature + (self.start_temperature - self.temperature) * left

    def _resample(self, walk: Walk, particles: Sequence[Path], reference: Path | None, depth: int) -> list[Path]:
        rewards = [path.reward for path in particles]
        if reference is not None:
            rewards.append(reference.steps[min(depth, len(reference.steps)) - 1].reward)
        weights, count = odds_weights(rewards, self.heat(depth)), len(particles)
        if self.resampling == "systematic":
            drawn = systematic(weights, count, float(walk.uniforms(1)[0]))
        else:
            drawn = multinomial(weights, walk.uniforms(count))
        for index in set(range(count)).difference(drawn):
            walk.drop(particles[index])
        return [
            particles[index] if index < count and index not in drawn[:place] else self._copy(walk, origin, depth)
            for place, index in enumerate(drawn)
            if (origin := particles[index] if index < count else reference) is not None
        ]

    def _copy(self, walk: Walk, origin: Path, depth: int) -> Path:
        copy = walk.fork(origin, depth)
        walk.work.tell("resample", branch=copy.branch.number, value=copy.reward, source=origin.branch.number)
        return copy
