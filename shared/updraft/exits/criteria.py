"""Exit criteria: may a token leave at this exit, must it go deeper, or is the edge wasting its time?

A criterion is a function of the token's trace (see `scores`). A token leaves only where its score is strictly above the
threshold, so no score that is a probability passes 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from updraft.errors import ConfigError
from updraft.exits.calibration import ExitCalibration
from updraft.exits.heads import ExitHead
from updraft.exits.scores import Score, ScoreName, Trace, head_says, make_score

__all__ = [
    "AboveThreshold",
    "CalibratedOutlook",
    "ExitCriterion",
    "ExitVerdict",
    "HeadOutlook",
    "NeverConfident",
    "Outlook",
    "StopAndExit",
    "make_criterion",
]


class ExitVerdict(Enum):
    """What becomes of a token at an exit."""

    STAY = "stay"  # ask the next exit
    EXIT = "exit"  # the exit's token stands
    HAND_OVER = "hand_over"  # no deeper exit will help: ask the cloud at once


class ExitCriterion(Protocol):
    """Judges a token by its trace, which holds at least one view."""

    def judge(self, trace: Trace) -> ExitVerdict: ...


class AboveThreshold:
    """Leave where the score is strictly above a threshold.

    Args:
        calibration: if given, the threshold is for the calibrated probability of agreeing with the full model.
    """

    def __init__(self, score: Score, threshold: float, calibration: ExitCalibration | None = None) -> None:
        self._score = score
        self._threshold = threshold
        self._calibration = calibration

    def judge(self, trace: Trace) -> ExitVerdict:
        value = self._score(trace)
        if self._calibration is not None:
            value = self._calibration.agrees(trace[-1].exit, self._score.name, value)
        return ExitVerdict.EXIT if value > self._threshold else ExitVerdict.STAY


class NeverConfident:
    """Every token goes on to the cloud: the text is the whole model's own."""

    def judge(self, trace: Trace) -> ExitVerdict:
        return ExitVerdict.STAY


class Outlook(Protocol):
    """Probability that this exit or a deeper one of the edge would write the full model's token."""

    def __call__(self, trace: Trace) -> float: ...


class HeadOutlook:
    """The outlook of a trained head: one minus its second probability."""

    def __init__(self, heads: Mapping[int, ExitHead]) -> None:
        self._heads = heads

    def __call__(self, trace: Trace) -> float:
        return 1.0 - head_says(self._heads, trace[-1]).hopeless


class CalibratedOutlook:
    """The outlook that a score had on the calibration text."""

    def __init__(self, score: Score, calibration: ExitCalibration) -> None:
        self._score = score
        self._calibration = calibration

    def __call__(self, trace: Trace) -> float:
        return self._calibration.outlook(trace[-1].exit, self._score.name, self._score(trace))


class StopAndExit:
    """Adds the third verdict: where the outlook is below a floor, deeper exits are skipped and the cloud is asked.

    After the stop-and-exit controller of "When Neural Code Completion Models Size up the Situation" (ICSE 2024,
    arXiv 2401.09964), whose third verdict ends a completion that would be rejected.
    """

    def __init__(self, criterion: ExitCriterion, outlook: Outlook, floor: float) -> None:
        self._criterion = criterion
        self._outlook = outlook
        self._floor = floor

    def judge(self, trace: Trace) -> ExitVerdict:
        verdict = self._criterion.judge(trace)
        if verdict is ExitVerdict.STAY and self._outlook(trace) < self._floor:
            return ExitVerdict.HAND_OVER
        return verdict


def make_criterion(
    name: ScoreName,
    *,
    threshold: float,
    patience: int = 1,
    q: float = 0.5,
    hand_over: float = 0.0,
    calibration: ExitCalibration | None = None,
    heads: Mapping[int, ExitHead] | None = None,
    calibrated: bool = False,
) -> ExitCriterion:
    """The criterion that settings describe.

    Args:
        threshold: for the scores probability and entropy, and with `calibrated` for every one; at 1 no token leaves,
            whatever the score.
        patience: PABEE's count, without `calibrated`.
        q: Q-exit's threshold, without `calibrated`.
        hand_over: floor of the outlook (`StopAndExit`); 0 never hands over.

    Raises:
        ConfigError: it needs a calibration or heads that are not there.
    """
    score = make_score(name, heads)
    if calibrated and calibration is None:
        raise ConfigError(
            "Calibrated exits need calibration.json in the model's folder.",
            remedy="Make it with `updraft calibrate exits FOLDER --text FILE.jsonl`.",
        )
    # A count of `patience` or more is a score above `patience` less a half.
    least = {"patience": patience - 0.5, "q": q}.get(name, threshold)
    criterion: ExitCriterion
    if threshold >= 1.0:
        criterion = NeverConfident()
    elif calibrated:
        criterion = AboveThreshold(score, threshold, calibration)
    else:
        criterion = AboveThreshold(score, least)
    return StopAndExit(criterion, _outlook(score, calibration, heads), hand_over) if hand_over > 0.0 else criterion


def _outlook(score: Score, calibration: ExitCalibration | None, heads: Mapping[int, ExitHead] | None) -> Outlook:
    if heads and score.name == "q":
        return HeadOutlook(heads)
    if calibration is not None:
        return CalibratedOutlook(score, calibration)
    if heads:
        return HeadOutlook(heads)
    raise ConfigError(
        "Handing over early needs calibration.json or trained exit heads in the model's folder.",
        remedy="Make one with `updraft calibrate exits`, or set exit.hand_over to 0.",
    )
