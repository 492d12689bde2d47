from __future__ import annotations

from itertools import islice

import torch

from updraft.laboratory.task import parse_problem, split_of, steps_of
from updraft.laboratory.vocabulary import END, decode
from updraft.train.laboratory.batches import IGNORED, batches, worked_examples

LINE_END = 13  # "\n", after three control tokens


def test_examples_are_problems_with_right_answers_as_targets() -> None:
    for tokens, targets in worked_examples(3)(7, 40):
        text, _, answer = decode(tokens).partition("\n")
        assert split_of(text) == "train"
        counted = [target for target in targets if target != IGNORED]
        assert counted[-1] == END and decode(counted[:-1]) == answer
        assert list(targets[len(text) : -1]) == list(tokens[len(text) + 1 :])  # what comes next
        assert all(step.prefix_right for step in steps_of(parse_problem(text), answer))


def test_the_draw_follows_from_its_number() -> None:
    draw = worked_examples(0)
    assert draw(1, 8) == draw(1, 8) == worked_examples(0)(1, 8)
    assert draw(1, 8) != draw(2, 8) and draw(1, 8) != worked_examples(1)(1, 8)


def test_batches_are_padded_and_can_be_taken_up_anywhere() -> None:
    draw = worked_examples(0)
    first = list(islice(batches(draw, 4, 0, 0), 40))
    later = list(islice(batches(draw, 4, 0, 21), 19))
    for (tokens, targets), (again, also) in zip(first[21:], later, strict=True):
        assert torch.equal(tokens, again) and torch.equal(targets, also)
    tokens, targets = first[0]
    assert tokens.shape == targets.shape and len(tokens) == 4
    padding = (tokens == END) & (targets == IGNORED)
    assert (tokens != END).sum(1).max() == tokens.shape[1] and padding.sum() == (tokens == END).sum()
    lengths = [(tokens != END).sum(1) for tokens, _ in first[:16]]
    spread = sum(int(some.max() - some.min()) for some in lengths)
    whole = torch.cat(lengths)
    assert spread < (whole.max() - whole.min()) * 2  # rows of one batch are of nearly one length


def test_all_examples_of_a_pool_are_in_some_batch() -> None:
    draw = worked_examples(0)
    rows = [decode(row[row != END].tolist()) for tokens, _ in islice(batches(draw, 2, 0, 0), 16) for row in tokens]
    assert sorted(rows) == sorted(decode(tokens) for tokens, _ in draw(0, 32))
