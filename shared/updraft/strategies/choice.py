"""Compute-optimal choice: a pilot tells how hard a question is, and that decides which strategy gets how much.

As compute-optimal scaling (Snell et al., arXiv 2408.03314, section 3): questions fall into classes of difficulty, and
each class has the strategy and budget that did best on questions of that class, for what it cost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from updraft.errors import ConfigError, InvalidRequest
from updraft.modes import Origin
from updraft.strategies.base import Strategy
from updraft.strategies.difficulty import Difficulty, features_of
from updraft.strategies.problem import Outcome, Sample
from updraft.strategies.tally import conclude, tally, verdict_on
from updraft.strategies.workspace import Workspace
from updraft.verifiers.base import Judgement, Verifier

__all__ = ["Candidate", "ComputeOptimal", "Plan", "Record", "fit_plans", "load_choice"]

_PLANS: Final = 16
_EASY: Final = 0.25  # up to here the pilot's answer stands, where no plans were given
_SHARES: Final = ((0.6, 8), (1.0, 64))  # difficulty and samples of what is harder


class Plan(BaseModel):
    """What questions up to a difficulty get; without a strategy the pilot's answer stands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    difficulty: float = Field(ge=0, le=1)
    strategy: str | None = Field(default=None, max_length=64)
    settings: dict[str, Any] = Field(default_factory=dict)
    samples: int = Field(default=1, ge=1, le=1024)


class ComputeOptimal(Strategy):
    """Writes a pilot, estimates the difficulty, and goes on as the first plan says that reaches so far.

    The pilot's first answer is the likeliest one, whatever the temperature: no other single answer is right as often.

    Answers of this model that came with the request count as the pilot's. The edge's vote, and their entropy and energy
    tell of the difficulty beside the pilot; they do not take its place. A plan never gets more than the budget has
    left; where it says more samples than the budget, it gets those of the budget. The pilot's answers vote in what
    follows.
    """

    name: ClassVar[str] = "auto"
    pilot: int = Field(default=2, ge=1, le=16, description="Answers that the difficulty is estimated from.")
    greedy: bool = Field(default=True, description="The pilot's first answer is the likeliest one.")
    difficulty: Difficulty = Difficulty()
    plans: tuple[Plan, ...] = Field(
        default=(),
        max_length=_PLANS,
        description="By difficulty, the easiest first; without any, a vote, or what the verifier can lead.",
    )

    @model_validator(mode="after")
    def _parsed(self) -> Self:
        for plan in self.plans:
            if plan.strategy is not None:
                parsed(plan)
        return self

    def check(self, work: Workspace) -> None:
        for plan in self.plans_for(work.verifier):
            if plan.strategy is not None:
                parsed(plan).check(work)

    async def solve(self, work: Workspace) -> Outcome:
        given = list(work.problem.given)
        own = [sample for sample in given if sample.origin is Origin.CLOUD]
        fresh = await self.drawn(work, min(self.pilot, work.budget.samples) - len(own))
        pilot, known = [*own, *fresh], [*given, *fresh]
        judged = await self._judged(work, pilot)
        edge = [sample for sample in given if sample.origin is Origin.EDGE]
        hard = self.difficulty.of(features_of(pilot, [judgement.score for judgement in judged], edge))
        work.tell("score", value=1.0 - hard, text="difficulty")
        plan = self._plan(work.verifier, hard)
        left = min(plan.samples, work.budget.samples) - len(fresh)
        if plan.strategy is None or left <= 0 or work.exhausted:
            return _stand(work, known, await self._judged(work, known), hard)
        return await self._go_on(work, plan, known, left)

    async def _judged(self, work: Workspace, samples: Sequence[Sample]) -> list[Judgement]:
        """What the verifier gives samples; it is not asked again about those that it has scored."""
        return await work.judge(samples) if work.verifier is not None else [Judgement(None)] * len(samples)

    async def drawn(self, work: Workspace, count: int) -> list[Sample]:
        """So many of the pilot's answers."""
        first = await work.sample(1, temperature=0.0) if self.greedy and count > 0 else []
        return [*first, *await work.sample(count - len(first))]

    def plans_for(self, verifier: Verifier | None) -> tuple[Plan, ...]:
        """The plans; where none were given, those that make the most of the verifier."""
        if self.plans:
            return self.plans
        strategy, settings = "rpc", dict[str, Any]()
        if verifier is not None:
            strategy, settings = "best-of-n", {"weighted": True}
            if verifier.judges_steps:
                strategy, settings = "particle-filtering", {}
        hard, hardest = (Plan(difficulty=d, strategy=strategy, settings=settings, samples=n) for d, n in _SHARES)
        return Plan(difficulty=_EASY), hard, hardest

    def _plan(self, verifier: Verifier | None, hard: float) -> Plan:
        """The plan for a difficulty; the last one for what is harder than all of them."""
        plans = self.plans_for(verifier)
        return next((plan for plan in plans if hard <= plan.difficulty), plans[-1])

    async def _go_on(self, work: Workspace, plan: Plan, known: Sequence[Sample], left: int) -> Outcome:
        problem, budget = work.problem, work.budget
        strategy = parsed(plan)
        work.problem = strategy.prepared(replace(problem, given=tuple(known)))
        work.budget = replace(budget, samples=left)
        work.ended = None  # calls that were too few for the pilot do not end what needs none
        try:
            return await strategy.solve(work)
        finally:
            work.problem, work.budget = problem, budget


def parsed(plan: Plan) -> Strategy:
    """The strategy of a plan that has one. Raises UnknownName, InvalidRequest."""
    from updraft.strategies.registry import parse_strategy  # which knows the strategy of plans, too

    if plan.strategy == ComputeOptimal.name:
        raise InvalidRequest("A plan cannot choose among plans.", param="strategy.plans")
    return parse_strategy(plan.strategy or "", plan.settings)


def _stand(work: Workspace, pilot: Sequence[Sample], judged: Sequence[Judgement], hard: float) -> Outcome:
    """The pilot's answer: by the verifier's scores where there are any, else by vote."""
    scores = [judgement.score for judgement in judged]
    weights = [1.0 if score is None else score for score in scores]
    found = tally(pilot, weights, scores)
    verified = verdict_on(found, pilot, judged)
    return conclude(work, pilot, found, confidence=lambda best: 1.0 - hard, verified=verified)


def load_choice(path: Path) -> ComputeOptimal:
    """Read what `updraft compose fit` wrote. Raises ConfigError: it is missing, or something else."""
    try:
        data = json.loads(path.read_bytes())
        if data.pop("name") != ComputeOptimal.name:
            raise ValueError("it names another strategy")
        return ComputeOptimal.model_validate(data)
    except OSError as error:
        raise ConfigError(f"{path} could not be read: {error.strerror}.", remedy="Correct the path.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidRequest) as error:
        raise ConfigError(
            f"{path.name} is no choice: {error}", remedy="Make one with `updraft compose fit`."
        ) from error


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a class of questions may get: a strategy with its settings, and samples. None: the pilot stands."""

    strategy: str | None
    samples: int = 1
    settings: tuple[tuple[str, Any], ...] = ()

    def plan(self, difficulty: float) -> Plan:
        return Plan(difficulty=difficulty, strategy=self.strategy, settings=dict(self.settings), samples=self.samples)


@dataclass(frozen=True, slots=True)
class Record:
    """One question of the set that plans are fitted on: its estimated difficulty, and what each candidate made of it,
    right (1) or wrong (0) with the tokens drawn, those of the pilot included."""

    difficulty: float
    results: Mapping[Candidate, tuple[float, float]]


def fit_plans(records: Sequence[Record], *, price: float, classes: int = 4) -> tuple[Plan, ...]:
    """For each class of difficulty the candidate with the most right answers less `price` times 1000 tokens.

    Classes hold equally many questions. Neighbours that get the same are joined.

    Args:
        price: what 1000 tokens cost, in right answers.

    Raises:
        ValueError: no records.
    """
    if not records:
        raise ValueError("no records to fit plans on")
    ordered = sorted(records, key=lambda record: record.difficulty)
    plans: list[Plan] = []
    parts = [part for part in np.array_split(np.arange(len(ordered)), classes) if len(part)]
    for index, part in enumerate(parts):
        members = [ordered[place] for place in part]
        best = max(members[0].results, key=lambda candidate: _value(members, candidate, price))
        last = index == len(parts) - 1
        edge = 1.0 if last else (members[-1].difficulty + ordered[int(part[-1]) + 1].difficulty) / 2
        plan = best.plan(edge)
        if plans and plans[-1].model_copy(update={"difficulty": edge}) == plan:
            plans.pop()
        plans.append(plan)
    return tuple(plans)


def _value(members: Sequence[Record], candidate: Candidate, price: float) -> float:
    results = [record.results[candidate] for record in members]
    return sum(right - price * tokens / 1000 for right, tokens in results) / len(results)
