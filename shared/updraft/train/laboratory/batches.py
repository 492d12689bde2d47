"""Rows of token ids for training, of nearly the same length in a batch, so that little of it is padding."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from updraft.laboratory.task import Problem, problems, prompt, worked
from updraft.laboratory.vocabulary import END, encode

__all__ = ["IGNORED", "Example", "batches", "worked_examples"]

IGNORED = -100
"""A target that counts for nothing."""

Example = tuple[Sequence[int], Sequence[int]]  # tokens, and what should follow each of them

_POOL = 16  # batches that are sorted by length together


def batches(
    draw: Callable[[int, int], Sequence[Example]], rows: int, seed: int, start: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Tokens and targets of batch `start` and, without end, of those after it; shapes (rows, length).

    Args:
        draw: called with a number and a count, gives as many examples, always the same for the same number.
    """
    for pool in itertools.count(start // _POOL):
        examples = sorted(draw(pool, rows * _POOL), key=lambda example: len(example[0]))
        order = random.Random(f"{seed}/{pool}").sample(range(_POOL), _POOL)
        for index in order[start % _POOL if pool == start // _POOL else 0 :]:
            yield _padded(examples[index * rows : (index + 1) * rows])


def worked_examples(seed: int) -> Callable[[int, int], list[Example]]:
    """Training problems with right answers; the tokens of a problem itself have no targets."""

    def draw(number: int, count: int) -> list[Example]:
        source = random.Random(f"{seed}/{number}")
        return [_example(problem, source) for problem in problems("train", count, seed=source.getrandbits(62))]

    def _example(problem: Problem, source: random.Random) -> Example:
        start, answer = encode(prompt(problem)), encode(worked(problem, source))
        return [*start, *answer], [*[IGNORED] * (len(start) - 1), *answer, END]

    return draw


def _padded(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    length = max(len(tokens) for tokens, _ in examples)
    tokens = np.full((len(examples), length), END)
    targets = np.full((len(examples), length), IGNORED)
    for row, (some, wanted) in enumerate(examples):
        tokens[row, : len(some)], targets[row, : len(some)] = some, wanted
    return torch.from_numpy(tokens), torch.from_numpy(targets)
