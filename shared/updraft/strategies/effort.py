"""How much compute an effort stands for, and what a request's settings make of it: the plan of one answer."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any, Final

from updraft.errors import InvalidRequest, MissingExtra
from updraft.modes import Effort, ModeSettings
from updraft.strategies.base import Strategy
from updraft.strategies.choice import ComputeOptimal
from updraft.strategies.problem import Budget
from updraft.strategies.registry import parse_strategy
from updraft.strategies.self_consistency import SelfConsistency
from updraft.verifiers import parse_verifier

__all__ = ["EFFORTS", "Plan", "Worth", "check_names", "plan_of", "spec_of"]


@dataclass(frozen=True, slots=True)
class Worth:
    """What an effort buys.

    Attributes:
        strategy: by name, where the request names none.
        samples: of the cloud, at most.
        edge_samples: answers that the edge draws first.
        threshold: the edge's part of the vote that needs no cloud; above 1 the cloud is always asked.
    """

    samples: int
    edge_samples: int
    threshold: float
    strategy: str = ComputeOptimal.name


EFFORTS: Final[dict[Effort, Worth]] = {
    Effort.NONE: Worth(samples=1, edge_samples=0, threshold=2.0, strategy=SelfConsistency.name),
    Effort.LOW: Worth(samples=4, edge_samples=3, threshold=0.6),
    Effort.MEDIUM: Worth(samples=8, edge_samples=4, threshold=0.75),
    Effort.HIGH: Worth(samples=16, edge_samples=4, threshold=0.9),
    Effort.MAX: Worth(samples=64, edge_samples=4, threshold=2.0),
}
"""The table. From low on the difficulty of the prompt decides how much of the samples is drawn (`ComputeOptimal`)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one answer of the mode `solve` is worked on.

    Attributes:
        verifier: its name and settings; None for none.
        threshold: as `Worth` has it.
        chosen: the parts of the budget that the effort chose and not the request: a cloud with lower limits cuts them,
            and refuses the others.
    """

    strategy: Strategy
    budget: Budget
    edge_samples: int
    threshold: float
    verifier: dict[str, Any] | None = None
    chosen: frozenset[str] = frozenset()

    def within(self, *, samples: int, tokens: int, room: int | None = None) -> Plan:
        """The plan within a cloud's limits, and with at most `room` tokens drawn."""
        budget = self.budget
        if "samples" in self.chosen:
            budget = replace(budget, samples=min(budget.samples, samples))
        if "tokens" in self.chosen:
            budget = replace(budget, tokens=min(budget.tokens or tokens, tokens))
        if room is not None:
            budget = replace(budget, tokens=max(1, min(budget.tokens or room, room)))
        return replace(self, budget=budget)


_PARTS: Final = ("samples", "tokens", "calls", "seconds")


def plan_of(settings: ModeSettings, most: int) -> Plan:
    """The plan that settings ask for; what they leave open is the effort's, medium where they name none.

    Args:
        most: longest answer, tokens.

    Raises:
        UnknownName: there is no such strategy.
        InvalidRequest: one of its settings is wrong, or the verifier that it needs is missing.
    """
    worth = EFFORTS[settings.effort or Effort.MEDIUM]
    asked, solve = settings.budget, settings.solve
    given = {name: value for name in _PARTS if (value := getattr(asked, name)) is not None}
    named = spec_of("name", settings.strategy) or {"name": worth.strategy}
    strategy = parse_strategy(named["name"], {key: value for key, value in named.items() if key != "name"})
    if strategy.needs_verifier and settings.verifier is None:
        raise InvalidRequest(
            f"The strategy {strategy.name} needs a verifier.",
            remedy="Name one, or choose another strategy.",
            param="verifier",
        )
    samples = asked.samples or strategy.usual or worth.samples
    chosen = {"samples": samples, "tokens": min(samples * most, 1 << 20)}
    return Plan(
        strategy=strategy,
        budget=Budget(**(chosen | given)),
        edge_samples=worth.edge_samples if solve.edge_samples is None else solve.edge_samples,
        threshold=worth.threshold if solve.threshold is None else solve.threshold,
        verifier=spec_of("kind", settings.verifier),
        chosen=frozenset(chosen.keys() - given.keys()),
    )


def spec_of(key: str, given: str | dict[str, Any] | None) -> dict[str, Any] | None:
    """A strategy or a verifier as an object with its name as `key`, however the request wrote it."""
    return {key: given} if isinstance(given, str) else given


def check_names(settings: ModeSettings) -> None:
    """Raises UnknownName or InvalidRequest, with the field, where the settings' strategy or verifier cannot be."""
    try:
        plan_of(settings, 1)
        if settings.verifier is not None:
            with contextlib.suppress(MissingExtra):  # the tier that judges may have what is not here
                parse_verifier(settings.verifier)
    except InvalidRequest as error:
        if error.param is not None and not error.param.startswith("updraft."):
            error.param = f"updraft.{error.param}"
        raise
