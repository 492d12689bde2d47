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
    """Its tokens; the target after a step's last token is the verdict, after other tokens there is none.

    Nothing is asked after the first wrong step (Let's Verify Step by Step, arXiv 2305.20050, section 2.4): that all
    later ones are wrong, too, is easily learned, and drowns what is hard, to see the first one.
    """
    tokens, ends = _tokens(rollout)
    targets = [IGNORED] * len(tokens)
    for place, right in zip(ends, rollout.labels, strict=True):
        targets[place] = RIGHT if right else WRONG
        if not right:
            break
    return tokens, targets


@torch.inference_mode()
def step_scores(model: LabModel, rollouts: Sequence[Rollout]) -> list[NDArray[np.float64]]:
    """The probability that each step is right if all before it are, by rollout: one verdict against the other."""
    scores = []
    for rollout in rollouts:
        tokens, ends = _tokens(rollout)
        logits = model(torch.tensor([tokens]))[0, ends]
        scores.append(torch.sigmoid(logits[:, RIGHT] - logits[:, WRONG]).double().numpy())
    return scores


def _tokens(rollout: Rollout) -> tuple[list[int], list[int]]:
    """Of prompt and answer, and where the answer's steps end."""
    start = encode(prompt(rollout.problem))
    tokens = [*start, *encode(rollout.text)]
    return tokens, [place for place in range(len(start), len(tokens)) if tokens[place] == _LINE_END]
