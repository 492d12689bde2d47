"""Choices replayed over recorded rewards: every arm's reward is known in every situation, so regret is exact."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from updraft.auto.arms import ARMS
from updraft.auto.context import Situation
from updraft.auto.history import History
from updraft.auto.learner import Learner
from updraft.auto.reward import Goal, Outcome, reward
from updraft.mode_settings import AutoSettings

__all__ = ["Recorded", "replay", "replay_goal"]

Rewards = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A situation, and what every arm came to in it."""

    situation: Situation
    outcomes: dict[str, Outcome]

    def rewards(self, goal: Goal) -> dict[str, float]:
        return {name: reward(outcome, self.situation, goal) for name, outcome in self.outcomes.items()}


Play = Callable[[Recorded, Rewards], float]
"""Chooses for a recorded situation, is told the reward of its choice alone, and returns it."""


def replay_goal(
    recorded: Sequence[Recorded], goal: Goal, *, rounds: int, repetitions: int, seed: int
) -> dict[str, Any]:
    """Policies over the same random order of situations, `repetitions` times.

    Returns:
        `curves`: mean cumulative regret of each policy; `rows`: what they came to; `choice_us`: time of a choice.
    """
    tables = [one.rewards(goal) for one in recorded]
    names = list(tables[0])
    curves: dict[str, list[np.ndarray[Any, Any]]] = {}
    gained: dict[str, list[float]] = {}
    spent = 0.0
    for repetition in range(repetitions):
        order = np.random.default_rng([seed, repetition]).integers(len(recorded), size=rounds)
        for policy, play in _policies(names, goal, seed + repetition).items():
            began = time.perf_counter()
            rewards = replay(recorded, tables, order.tolist(), play)
            spent += (time.perf_counter() - began) * (policy == "auto")
            best = np.array([max(tables[place].values()) for place in order])
            curves.setdefault(policy, []).append(np.cumsum(best - rewards))
            gained.setdefault(policy, []).append(float(np.mean(rewards)))
    oracle = float(np.mean([max(table.values()) for table in tables]))
    means = {policy: np.mean(lines, axis=0) for policy, lines in curves.items()}
    return {
        "goal": goal,
        "curves": {policy: [round(float(value), 4) for value in line] for policy, line in means.items()},
        "rows": [_row(goal, policy, curves[policy], gained[policy], oracle, gained["random"]) for policy in curves],
        "oracle": oracle,
        "choice_us": 1e6 * spent / (rounds * repetitions),
    }


def replay(
    recorded: Sequence[Recorded], tables: Sequence[Rewards], order: Sequence[int], play: Play
) -> np.ndarray[Any, Any]:
    """Rewards of one policy in this order of situations."""
    return np.array([play(recorded[place], tables[place]) for place in order])


def _policies(names: Sequence[str], goal: Goal, seed: int) -> dict[str, Play]:
    drawn = np.random.default_rng([seed, 1])

    def at_random(_: Recorded, rewards: Rewards) -> float:
        return rewards[names[int(drawn.integers(len(names)))]]

    def always(name: str) -> Play:
        return lambda _, rewards: rewards[name]

    return {
        "auto": _learning(AutoSettings(goal=goal), seed),
        "auto, no drawing": _learning(AutoSettings(goal=goal, random_share=0.0), seed),
        "defaults alone": _learning(AutoSettings(goal=goal, random_share=0.0, explore=0.0), seed, teach=False),
        "random": at_random,
        **{f"always {name}": always(name) for name in names},
    }


def _learning(settings: AutoSettings, seed: int, *, teach: bool = True) -> Play:
    """The agent's own learner, from an empty history."""
    learner = Learner(History(None), seed=seed)
    learner.meet("bench")
    arms = {arm.name: arm for arm in ARMS}

    def play(one: Recorded, rewards: Rewards) -> float:
        ticket = learner.choose([arms[name] for name in rewards], one.situation, settings)
        if teach:
            learner.learn(ticket, one.outcomes[ticket.arm.name])
        return rewards[ticket.arm.name]

    return play


def _row(
    goal: str, policy: str, curves: list[np.ndarray[Any, Any]], gained: list[float], oracle: float, random: list[float]
) -> dict[str, Any]:
    ends = [float(curve[-1]) for curve in curves]
    rounds = len(curves[0])
    late = float(np.mean([curve[-1] - curve[-1 - rounds // 4] for curve in curves])) / (rounds // 4)
    low = float(np.mean(random))
    mean = float(np.mean(gained))
    return {
        "goal": goal,
        "policy": policy,
        "reward": mean,
        "regret": float(np.mean(ends)),
        "regret_low": min(ends),
        "regret_high": max(ends),
        "regret_a_choice": float(np.mean(ends)) / rounds,
        "late_regret_a_choice": late,
        "of_oracle_gain": (mean - low) / (oracle - low) if oracle > low else None,
    }
