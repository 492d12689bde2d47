"""The seam of strategies: how compute is spent on one prompt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from updraft.errors import ConfigError
from updraft.strategies.problem import Outcome, Problem
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

    def check(self, work: Workspace) -> None:
        """See that what the strategy needs is there, before anything is spent.

        Raises:
            ConfigError: it needs a verifier, or one that judges steps, and there is none.
        """
        verifier = work.verifier
        if self.needs_verifier and verifier is None:
            raise ConfigError(
                f"The strategy {self.name} needs a verifier.", remedy="Name one, or choose another strategy."
            )
        if self.needs_steps and not (verifier and verifier.judges_steps):
            raise ConfigError(
                f"The strategy {self.name} needs a verifier that judges steps.",
                remedy="Name a process reward model, or choose another strategy.",
            )

    def prepared(self, problem: Problem) -> Problem:
        """The problem as this strategy reads it."""
        return problem

    @property
    def usual(self) -> int | None:
        """Samples that it takes where a request names no number; None leaves that to the effort."""
        return None

    @abstractmethod
    async def solve(self, work: Workspace) -> Outcome:
        """Work until the budget or the strategy itself says that it is enough."""
