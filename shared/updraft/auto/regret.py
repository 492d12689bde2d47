"""How good the choices of a log were, compared with other choices that could have been made.

Nobody knows what an arm that was not chosen would have brought. Three answers, each with its weakness:

- by the model: every arm's reward in every recorded situation as the model estimates it in hindsight, from the whole
  log. Says what the log allows to say, and is as wrong as the model is.
- by inverse propensity (Horvitz-Thompson; self-normalised, SNIPS, Swaminathan and Joachims 2015): the mean reward of an
  arm over the choices where it was drawn or chosen, weighted by one over the probability of that. Needs no model, but
  the bandit's random share, and has much variance while that is small.
- expected against obtained: mean difference and error of what was predicted for the chosen arm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from updraft.auto.arms import ARMS
from updraft.auto.bandit import LinUcb
from updraft.auto.context import FEATURES, features
from updraft.auto.history import Record
from updraft.auto.prior import expected_reward
from updraft.auto.reward import Goal, reward

__all__ = ["ArmSummary", "LogSummary", "summarise"]

_BY_NAME = {arm.name: arm for arm in ARMS}


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """One arm.

    Attributes:
        mean: of the rewards it brought; None if it was never chosen.
        modelled: mean over all situations in which it could have been chosen, by the model in hindsight.
        weighted: the same by inverse propensity; None where it cannot be told.
        effective: number of equally weighted choices that `weighted` is worth.
    """

    name: str
    chosen: int
    possible: int
    mean: float | None
    modelled: float
    weighted: float | None
    effective: float


@dataclass(frozen=True, slots=True)
class LogSummary:
    """A log under one goal.

    Attributes:
        rewards: of the choices, in order.
        regret: cumulative, by the model in hindsight, against the best possible arm in each situation.
        fixed_regret: the same against the one arm that the model thinks best over all.
        bias, error: mean and root mean square of expected less obtained reward.
    """

    choices: int
    random: int
    arms: list[ArmSummary]
    rewards: list[float]
    regret: list[float]
    fixed_regret: list[float]
    best_fixed: str
    bias: float
    error: float


def summarise(records: Sequence[Record], goal: Goal) -> LogSummary:
    """Raises ValueError if there are no records of arms that this version knows."""
    known = [record for record in records if record.arm in _BY_NAME]
    if not known:
        raise ValueError("there are no choices to look at")
    model = LinUcb(len(FEATURES))
    gained = [reward(record.outcome, record.situation, goal) for record in known]
    for record, got in zip(known, gained, strict=True):
        prior = expected_reward(_BY_NAME[record.arm], record.situation, goal)
        model.learn(record.arm, features(record.situation), got - prior)
    tables = [_modelled(model, record, goal) for record in known]
    arms = [_arm(arm.name, known, gained, tables) for arm in ARMS if any(arm.name in table for table in tables)]
    fixed = max(arms, key=lambda arm: (arm.possible, arm.modelled)).name
    off = [record.expected[record.arm][0] - record.reward for record in known if record.arm in record.expected]
    return LogSummary(
        choices=len(known),
        random=sum(record.random for record in known),
        arms=arms,
        rewards=gained,
        regret=_summed([max(table.values()) - table[record.arm] for record, table in zip(known, tables, strict=True)]),
        fixed_regret=_summed(
            [
                table.get(fixed, table[record.arm]) - table[record.arm]
                for record, table in zip(known, tables, strict=True)
            ]
        ),
        best_fixed=fixed,
        bias=sum(off) / max(1, len(off)),
        error=math.sqrt(sum(value * value for value in off) / max(1, len(off))),
    )


def _modelled(model: LinUcb, record: Record, goal: Goal) -> dict[str, float]:
    """Every arm that could have been chosen, with its reward in hindsight."""
    x = features(record.situation)
    names = dict.fromkeys([*record.expected, record.arm])
    return {
        name: model.estimate(name, x, expected_reward(_BY_NAME[name], record.situation, goal)).value
        for name in names
        if name in _BY_NAME
    }


def _arm(
    name: str, records: Sequence[Record], gained: Sequence[float], tables: Sequence[dict[str, float]]
) -> ArmSummary:
    modelled = [table[name] for table in tables if name in table]
    own = [(record, got) for record, got in zip(records, gained, strict=True) if record.arm == name]
    weights = [1.0 / record.propensity for record, _ in own if record.propensity > 0.0]
    told = sum(weights) if len(weights) == len(own) else 0.0
    weighted = sum(weight * got for weight, (_, got) in zip(weights, own, strict=True)) / told if told else None
    return ArmSummary(
        name=name,
        chosen=len(own),
        possible=len(modelled),
        mean=sum(got for _, got in own) / len(own) if own else None,
        modelled=sum(modelled) / len(modelled),
        weighted=weighted,
        effective=told * told / sum(weight * weight for weight in weights) if told else 0.0,
    )


def _summed(values: Sequence[float]) -> list[float]:
    total, sums = 0.0, []
    for value in values:
        total += value
        sums.append(total)
    return sums
