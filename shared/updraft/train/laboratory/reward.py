"""What the reward model learns from: answers with a verdict after every step (Math-Shepherd, arXiv 2312.08935, but for
the labels, which are exact here)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from updraft.laboratory.task import LETTERS, MODULUS, Problem, one_of, parse_answer, prompt, steps_of
from updraft.laboratory.vocabulary import RIGHT, WRONG, encode
from updraft.train.laboratory.batches import IGNORED, Example
from updraft.train.laboratory.model import LabModel

__all__ = ["Rollout", "flawed", "judged_example", "step_scores"]

_LINE_END = encode("\n")[0]
_FLAWS = 0.2  # of the steps of a flawed answer, at most
_SLIPS = 0.8  # of them are a wrong digit


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
    """Its tokens, with verdicts as targets.

    After a step's last token stands the verdict on it, by the step before, be that right or wrong: that all steps after
    a wrong one are wrong, too, is easily learned, and drowns what is hard, to see a wrong one. After each token within
    a step stands whether it is right so far. Nobody asks for that later, but where the first wrong token is can be seen
    from the token before, and a model that is taught so judges ends better.
    """
    tokens, ends = _tokens(rollout)
    targets = [IGNORED] * len(tokens)
    for end, step in zip(ends, steps_of(rollout.problem, rollout.text), strict=False):
        sound = [place < step.sound for place in range(len(step.text))]
        verdicts = [RIGHT if right else WRONG for right in (*sound, step.right)]
        targets[end + 1 - len(verdicts) : end + 1] = verdicts
    return tokens, targets


def flawed(problem: Problem, draw: random.Random) -> str:
    """An answer of which some steps do not follow from those before: another digit, or an operation whose turn it is
    not. What comes next goes on from there."""
    number, done, lines = problem.start, frozenset[int](), []
    while ways := problem.ways(done):
        place = one_of(ways, draw)
        if draw.random() < _FLAWS:
            if draw.random() < _SLIPS:
                number = _another(number, draw)
            else:
                place = draw.choice([way for way in range(problem.steps) if way not in done])
        operation = problem.operations[place]
        lines.append(f"{number}{LETTERS[place]}{operation}\n")
        number, done = operation(number), done | {place}
    ending = _another(number, draw) if draw.random() < _FLAWS else number
    return "".join(lines) + f"#{ending}\n"


def _another(number: int, draw: random.Random) -> int:
    return (number + draw.randint(1, MODULUS - 1)) % MODULUS


@torch.inference_mode()
def step_scores(model: LabModel, rollouts: Sequence[Rollout]) -> list[NDArray[np.float64]]:
    """The probability that each step is right, given those before it, by rollout: one verdict against the other."""
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
