"""The bandit of mode `auto` with its history: chooses among arms, and learns from what came of it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from updraft.auto.arms import ARMS, Arm
from updraft.auto.bandit import Choice, LinUcb
from updraft.auto.context import FEATURES, Situation, features
from updraft.auto.history import History, Record
from updraft.auto.prior import expected_reward
from updraft.auto.reward import Goal, Outcome, reward
from updraft.mode_settings import AutoSettings

__all__ = ["Learner", "Ticket", "pair_key"]

_BY_NAME = {arm.name: arm for arm in ARMS}


@dataclass(frozen=True, slots=True)
class Ticket:
    """A choice that has not been learned from yet."""

    arm: Arm
    goal: Goal
    situation: Situation
    choice: Choice


def pair_key(edge: str, cloud: str | None) -> str:
    """Names an edge model and a cloud without saying their names."""
    return hashlib.sha256(f"{edge}\0{cloud or ''}".encode()).hexdigest()[:16]


class Learner:
    """One for an agent. A choice is a function of the seed, the history, the situation and the settings.

    Rewards are reckoned anew from the recorded outcomes for the goal that is asked for, so that every goal learns from
    every answer.
    """

    def __init__(self, history: History, *, seed: int) -> None:
        self._history = history
        self._seed = seed
        self._pair = ""
        self._models: dict[Goal, LinUcb] = {}
        self._drawn = 0

    @property
    def records(self) -> Sequence[Record]:
        return self._history.records

    def meet(self, pair: str) -> None:
        """Learn for this pair of models from now on."""
        if pair != self._pair:
            self._pair = pair
            self._models.clear()

    def choose(self, arms: Iterable[Arm], situation: Situation, settings: AutoSettings) -> Ticket:
        """One of the arms, at least one of which must be given."""
        priors = {arm.name: expected_reward(arm, situation, settings.goal) for arm in arms}
        self._drawn += 1
        choice = self._model(settings.goal).choose(
            priors,
            features(situation),
            explore=settings.explore,
            random_share=settings.random_share,
            draw=float(np.random.default_rng([self._seed, self._drawn]).random()),
        )
        return Ticket(_BY_NAME[choice.name], settings.goal, situation, choice)

    def learn(self, ticket: Ticket, outcome: Outcome, *, round_trip_s: float | None = None) -> float:
        """Record what came of a choice; its reward. `round_trip_s`: of the link, as known now."""
        gained = reward(outcome, ticket.situation, ticket.goal)
        record = Record(
            version=1,
            time=time.time(),
            pair=self._pair,
            goal=ticket.goal,
            arm=ticket.arm.name,
            propensity=ticket.choice.propensity,
            random=ticket.choice.random,
            expected={name: (one.value, one.bonus) for name, one in ticket.choice.estimates.items()},
            reward=gained,
            situation=ticket.situation,
            outcome=outcome,
            round_trip_s=round_trip_s,
        )
        for goal, model in self._models.items():
            _teach(model, record, goal)
        self._history.add(record)
        return gained

    def _model(self, goal: Goal) -> LinUcb:
        if goal not in self._models:
            model = LinUcb(len(FEATURES))
            for record in self._history.records:
                if record.pair == self._pair:
                    _teach(model, record, goal)
            self._models[goal] = model
        return self._models[goal]


def _teach(model: LinUcb, record: Record, goal: Goal) -> None:
    arm = _BY_NAME.get(record.arm)
    if arm is not None:  # a newer version may know more
        above = reward(record.outcome, record.situation, goal) - expected_reward(arm, record.situation, goal)
        model.learn(record.arm, features(record.situation), above)
