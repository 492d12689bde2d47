"""How good the laboratory's models are, on problems that nothing was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from updraft.evaluation.curves import auc
from updraft.laboratory.task import Problem, parse_answer
from updraft.train.laboratory.model import LabModel
from updraft.train.laboratory.reward import Rollout, step_scores
from updraft.train.laboratory.rollouts import ROWS, answers

__all__ = ["Accuracy", "Judgement", "accuracy", "judgement", "pass_at"]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of several answers to each of several problems.

    Attributes:
        by_steps: share of right answers by the problem's number of steps.
        passes: by k, the probability that one of k answers is right.
        unparsed: share of answers without a number.
    """

    answers: int
    temperature: float
    mean: float
    by_steps: dict[int, float]
    passes: dict[int, float]
    unparsed: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """How well scores from 0 to 1 tell right from wrong; None where there is nothing to tell.

    Attributes:
        right: how many there were.
        auc: the area under the receiver's curve.
        false_positives: share of wrong ones that were scored 0.5 or more.
        false_negatives: share of right ones that were scored less.
    """

    right: int
    wrong: int
    auc: float | None
    false_positives: float | None
    false_negatives: float | None


def accuracy(
    model: LabModel, problems: Sequence[Problem], temperature: float, samples: int = 1, seed: int = 0
) -> Accuracy:
    """Sample answers in torch and check them; pass@k for 1, 4, 16 and 64, as far as there are as many samples."""
    asked = [problem for problem in problems for _ in range(samples)]
    texts: list[str] = []
    for start in range(0, len(asked), ROWS):
        texts += answers(model, asked[start : start + ROWS], temperature, seed=seed + start)
    found = [parse_answer(text) for text in texts]
    right = np.array([one == problem.answer for one, problem in zip(found, asked, strict=True)])
    table = right.reshape(len(problems), samples)
    steps = np.array([problem.steps for problem in problems])
    return Accuracy(
        answers=samples,
        temperature=temperature,
        mean=float(table.mean()),
        by_steps={int(n): float(table[steps == n].mean()) for n in np.unique(steps)},
        passes={k: float(np.mean([pass_at(k, samples, int(row.sum())) for row in table])) for k in _budgets(samples)},
        unparsed=sum(one is None for one in found) / len(found),
    )


def pass_at(k: int, samples: int, right: int) -> float:
    """The probability that k of `samples` answers, drawn without replacement, hold one of the `right` ones.

    Chen et al., arXiv 2107.03374.
    """
    wrong = samples - right
    return 1.0 - float(np.prod([(wrong - i) / (samples - i) for i in range(k)]))


def judgement(model: LabModel, rollouts: Sequence[Rollout]) -> tuple[Judgement, Judgement]:
    """Of single steps up to the first wrong one, and of whole answers by the product of their steps' scores (the answer
    is right)."""
    scores = step_scores(model, rollouts)
    asked = [
        rollout.labels.index(False) + 1 if False in rollout.labels else len(rollout.labels) for rollout in rollouts
    ]
    labels = np.array([label for rollout, n in zip(rollouts, asked, strict=True) for label in rollout.labels[:n]], bool)
    ended = [(score.prod(), rollout.right) for score, rollout in zip(scores, rollouts, strict=True) if len(score)]
    return (
        _judged(np.concatenate([score[:n] for score, n in zip(scores, asked, strict=True)]), labels),
        _judged(np.array([score for score, _ in ended]), np.array([right for _, right in ended], bool)),
    )


def _judged(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> Judgement:
    accepted = scores >= 0.5
    return Judgement(
        right=int(labels.sum()),
        wrong=int((~labels).sum()),
        auc=auc(scores, labels) if 0 < labels.sum() < len(labels) else None,
        false_positives=_share(accepted[~labels]),
        false_negatives=_share(~accepted[labels]),
    )


def _share(found: NDArray[np.bool_]) -> float | None:
    return float(found.mean()) if len(found) else None


def _budgets(samples: int) -> list[int]:
    return [k for k in (1, 4, 16, 64) if k <= samples]
