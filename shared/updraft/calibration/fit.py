"""From measured losses and a goal to a setting and what it promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from updraft.calibration.goals import Goal
from updraft.calibration.grid import GridPoint
from updraft.calibration.results import Floats, Table
from updraft.errors import GoalUnreachable
from updraft.evaluation.conformal import learn_then_test, rejects, risk_control

__all__ = ["Fit", "certified", "choose", "choose_point", "oriented"]

_LEVELS: Final = np.arange(1, 1000) / 1000.0


@dataclass(frozen=True, slots=True)
class Fit:
    """`chosen` is a place in the grid, `guarantee` what holds there."""

    chosen: int
    guarantee: str


def choose(goal: Goal, table: Table, points: Sequence[GridPoint], *, horizon: int | None = None) -> Fit:
    """The setting that meets the goal with the least of the cloud, or, for a goal on the cloud's part, the most.

    Raises:
        GoalUnreachable: no setting does; the message names the nearest goal that one meets.
    """
    values = table.metric(goal.metric)
    if not goal.bounded:
        return _measured_only(goal, values.mean(axis=0), table)
    losses, exact = oriented(goal, values, points)
    found = choose_point(goal, losses, exact, horizon=horizon)
    if found is None:
        raise _unreachable(goal, losses, len(points), horizon)
    chosen = found if goal.on_quality else len(points) - 1 - found
    sure = goal.on_quality and points[chosen].exact
    return Fit(chosen, _promise(goal, len(values), len(points), horizon, exact=sure))


def oriented(goal: Goal, values: Floats, points: Sequence[GridPoint]) -> tuple[Floats, list[bool]]:
    """Losses that rise along the columns, and which columns are 0 by construction: the cloud's share falls where
    disagreement rises, so for it the grid is walked from the other end."""
    if goal.on_quality:
        return values, [point.exact for point in points]
    return values[:, ::-1], [False] * len(points)


def choose_point(goal: Goal, losses: Floats, exact: Sequence[bool], *, horizon: int | None = None) -> int | None:
    """The last column that meets the goal; None where none does."""
    if goal.confidence is not None:
        return learn_then_test(losses, goal.level, 1.0 - goal.confidence, exact=exact, horizon=horizon)
    found = risk_control(losses, goal.level)
    # A first column without any loss meets every goal, however few the prompts.
    return 0 if found is None and exact[0] else found


def certified(goal: Goal, losses: Floats) -> float:
    """The least level, in steps of 0.001, that one column's losses meet; 1 if none."""
    if goal.confidence is None:
        level = (losses.sum() + 1.0) / (losses.size + 1.0)
        return float(min(1.0, np.ceil(level * 1000 - 1e-9) / 1000))
    low, high = 0, _LEVELS.size  # the tests are monotone in the level
    while low < high:
        middle = (low + high) // 2
        if rejects(losses, float(_LEVELS[middle]), 1.0 - goal.confidence):
            high = middle
        else:
            low = middle + 1
    return float(_LEVELS[low]) if low < _LEVELS.size else 1.0


def _measured_only(goal: Goal, means: NDArray[np.float64], table: Table) -> Fit:
    """Of the settings within the goal the one that disagrees least."""
    within = np.flatnonzero(means <= goal.level)
    if not within.size:
        best = int(means.argmin())
        raise GoalUnreachable(
            f"No setting meets {goal}; the nearest that one meets is {goal.metric}<={_up(float(means[best]))}.",
            param="goal",
        )
    disagreement = table.metric("disagreement").mean(axis=0)
    chosen = int(within[disagreement[within].argmin()])
    return Fit(
        chosen,
        f"None: {goal.metric} has no upper end, so it was measured, not promised. Its mean over the "
        f"{len(table.cells)} prompts was {means[chosen]:.4g}; of the settings within the goal this one differs least "
        "from the cloud's text.",
    )


def _unreachable(goal: Goal, losses: Floats, points: int, horizon: int | None) -> GoalUnreachable:
    count = len(losses)
    first = losses[:, 0]
    nearest = certified(goal, first)
    least = (
        int(np.ceil(np.log(1.0 - goal.confidence) / np.log1p(-goal.level)))
        if goal.confidence is not None
        else int(np.ceil(1.0 / goal.level - 1.0))
    )
    more = f" At least {least} prompts are needed for that goal, even without any loss." if count < least else ""
    reach = f"{goal.at(nearest)}" if nearest < 1.0 else "none"
    return GoalUnreachable(
        f"No setting of {points} meets {goal} on {count} prompts: the measured mean is {first.mean():.3g} at best; "
        f"the nearest goal that one meets is {reach}.{more}",
        param="goal",
    )


def _promise(goal: Goal, prompts: int, points: int, horizon: int | None, *, exact: bool) -> str:
    names = {
        "disagreement": "disagreement with the cloud's text (token edit distance over the longer text's length)",
        "rejected": "share of an answer's tokens that are not the cloud's greedy choice after the text before them",
        "mismatch": "share of answers that differ from the cloud's text",
        "share": "share of an answer's tokens that the cloud writes",
    }
    what, scope = names[goal.metric], "for greedy answers to prompts exchangeable with these"
    if exact:
        return f"The text is the cloud's own by construction, so the {what} is 0."
    if goal.confidence is None:
        return (
            f"The expected {what} is at most {goal.level:g}, on average over calibration prompts and the next one, "
            f"{scope} (conformal risk control, arXiv 2208.02814, on the running maximum along the grid; "
            f"{prompts} prompts, {points} settings)."
        )
    of = "expected" if horizon is None else f"mean over the next {horizon} prompts of the"
    return (
        f"With probability {goal.confidence:g} over the calibration prompts the {of} {what} is at most {goal.level:g}, "
        f"{scope} (Learn then Test with fixed-sequence testing, arXiv 2110.01052; {prompts} prompts, {points} "
        "settings)."
    )


def _up(value: float) -> str:
    """Three digits, never below the value."""
    power = 10.0 ** np.floor(np.log10(value)) / 100 if value > 0 else 1.0
    return f"{np.ceil(value / power - 1e-9) * power:.3g}"
