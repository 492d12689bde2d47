"""Self-consistency (Wang et al., arXiv 2203.11171): the final answer that most samples give."""

from __future__ import annotations

from typing import ClassVar

from updraft.strategies.base import Strategy
from updraft.strategies.problem import Outcome
from updraft.strategies.tally import conclude, tally
from updraft.strategies.workspace import Workspace

__all__ = ["SelfConsistency"]


class SelfConsistency(Strategy):
    """The majority among the budget's samples; answers that came with the request vote too."""

    name: ClassVar[str] = "self-consistency"

    async def solve(self, work: Workspace) -> Outcome:
        samples = [*work.problem.given, *await work.sample(work.budget.samples)]
        return conclude(work, samples, tally(samples, [1.0] * len(samples)))
