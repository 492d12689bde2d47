"""A pipeline as a strategy: requests may bring their own."""

from __future__ import annotations

from typing import ClassVar

from updraft.composition.executor import check, execute
from updraft.composition.pipeline import Pipeline
from updraft.strategies.base import Strategy
from updraft.strategies.problem import Outcome
from updraft.strategies.workspace import Workspace

__all__ = ["Composed"]


class Composed(Strategy):
    """Runs the components of `pipeline`; its calls are bounded by the budget's calls, too."""

    name: ClassVar[str] = "pipeline"
    pipeline: Pipeline

    @property
    def own_samples(self) -> int:
        asked = sum(getattr(component, "samples", 1) for component in self.pipeline.component)
        return min(self.pipeline.calls, asked)

    def check(self, work: Workspace) -> None:
        check(self.pipeline, work)

    async def solve(self, work: Workspace) -> Outcome:
        return await execute(self.pipeline, work)
