"""The seam of strategies: how compute is spent on one prompt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from updraft.strategies.problem import Outcome
from updraft.strategies.workspace import Workspace

__all__ = ["Strategy"]


class Strategy(BaseModel, ABC):
    """A strategy with its settings, which are the fields; how much it may spend is the workspace's budget.

    It is a pure function of the problem, the settings, the budget and the seed: what it does next follows from what
    came back whole, and never from what came back first. It may be cancelled at any await.

    Attributes:
        name: in the registry, requests and tables.
        needs_verifier: it cannot work without one.
        needs_steps: the verifier must judge answers that are not whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    needs_verifier: ClassVar[bool] = False
    needs_steps: ClassVar[bool] = False

    @abstractmethod
    async def solve(self, work: Workspace) -> Outcome:
        """Work until the budget or the strategy itself says that it is enough."""
