"""A pipeline as a strategy: requests may bring their own."""

from __future__ import annotations

from typing import ClassVar

from updraft.composition.executor import check, execute
from updraft.composition.pipeline import Pipeline
from updraft.strategies.base import Strategy
from updraft.strategies.problem import MOST_SAMPLES, Outcome
from updraft.strategies.workspace import Workspace

__all__ = ["Composed"]


class Composed(Strategy):
    """Runs the components of `pipeline`. The budget's samples are the answers that are written, all generators' and
    fusions' together."""

    name: ClassVar[str] = "pipeline"
    pipeline: Pipeline

    @property
    def usual(self) -> int:
        return min(self.pipeline.calls, MOST_SAMPLES)

    def check(self, work: Workspace) -> None:
        check(self.pipeline, work)

    async def solve(self, work: Workspace) -> Outcome:
        return await execute(self.pipeline, work)
