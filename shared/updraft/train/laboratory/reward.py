"""What the reward model learns from: answers of the others, with a verdict after every step (Math-Shepherd,
arXiv 2312.08935, but for the labels, which are exact here)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from updraft.laboratory.task import Problem, parse_answer, prompt, steps_of
from updraft.laboratory.vocabulary import RIGHT, WRONG, encode
from updraft.train.laboratory.batches import IGNORED, Example
from updraft.train.laboratory.model import LabModel

__all__ = ["Rollout", "judged_example", "step_scores"]

_LINE_END = encode("\n")[0]


@dataclass(frozen=True, slots=True)
class Rollout:
    """An answer of a model to a problem."""

    problem: Problem
    text: str

    @property
    def right(self) -> bool:
        """Its last number is the problem's answer."""
        return parse_answer(self.text) == self.problem.answer

    @property
    def labels(self) -> list[bool]:
        """For each step that has ended, whether it and all before it are right."""
        return [step.prefix_right for step in steps_of(self.problem, self.text)][: self.text.count("\n")]


def judged_example(rollout: Rollout) -> Example:
    """Its tokens; the target after a step's last token is the verdict, after other tokens there is none."""
    start = encode(prompt(rollout.problem))
    tokens, labels = [*start, *encode(rollout.text)], iter(rollout.labels)
    targets = [IGNORED] * len(tokens)
    for place in range(len(start), len(tokens)):
        if tokens[place] == _LINE_END:
            targets[place] = RIGHT if next(labels) else WRONG
    return tokens, targets


@torch.inference_mode()
def step_scores(model: LabModel, rollouts: Sequence[Rollout]) -> list[NDArray[np.float64]]:
    """The probability that each step and all before it are right, by rollout: that of one verdict against the other."""
    scores = []
    for rollout in rollouts:
        tokens, targets = judged_example(rollout)
        rows = [place for place, target in enumerate(targets) if target != IGNORED]
        logits = model(torch.tensor([tokens]))[0, rows]
        scores.append(torch.sigmoid(logits[:, RIGHT] - logits[:, WRONG]).double().numpy())
    return scores
