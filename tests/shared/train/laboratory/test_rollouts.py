from __future__ import annotations

import pytest
import torch

from updraft.laboratory.task import problems, prompt
from updraft.laboratory.vocabulary import END, RIGHT, WRONG, decode, encode
from updraft.train.laboratory import rollouts
from updraft.train.laboratory.model import LabModel
from updraft.train.laboratory.rollouts import LONGEST_ANSWER, answers

PROBLEMS = problems("test", 6, steps=[1, 5, 8])


@torch.inference_mode()
def slow_greedy(model: LabModel, text: str) -> str:
    """One token after another, all of the text computed again for each."""
    tokens, start = encode(text), len(encode(text))
    while len(tokens) - start < LONGEST_ANSWER:
        logits = model(torch.tensor([tokens]))[0, -1]
        logits[[RIGHT, WRONG]] = -torch.inf
        tokens.append(int(logits.argmax()))
        if tokens[-1] == END:
            break
    return decode(tokens[start:])


def test_greedy_answers_are_those_of_the_whole_model(model: LabModel) -> None:
    found = answers(model, PROBLEMS, 0.0)
    assert found == [slow_greedy(model, prompt(problem)) for problem in PROBLEMS]
    assert len(set(found)) > 1


def test_answers_end(model: LabModel) -> None:
    with torch.no_grad():  # an output row of the end that no other can beat
        model.trunk.norm.weight.zero_()
        model.trunk.norm.weight[0] = 1
        model.embedding.weight[:, 0] = 0
        model.embedding.weight[END, 0] = -50
    texts = answers(model, PROBLEMS, 0.5) + answers(model, PROBLEMS, 0.5, seed=1)
    assert "" in texts and all(len(text) <= LONGEST_ANSWER for text in texts)


def test_a_seed_decides(model: LabModel) -> None:
    first = answers(model, PROBLEMS, 1.0, seed=3)
    assert answers(model, PROBLEMS, 1.0, seed=3) == first
    assert answers(model, PROBLEMS, 1.0, seed=4) != first


def test_draws_follow_the_distribution(model: LabModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """First tokens of many answers to one problem against the model's probabilities."""
    monkeypatch.setattr(rollouts, "LONGEST_ANSWER", 1)
    count = 3000
    with torch.inference_mode():
        logits = model(torch.tensor([encode(prompt(PROBLEMS[0]))]))[0, -1] / 0.7
        logits[[RIGHT, WRONG]] = -torch.inf
        expected = torch.softmax(logits, -1)
    letter = int(expected[3:131].argmax()) + 3  # a byte that is a text by itself
    written = answers(model, [PROBLEMS[0]] * count, 0.7)
    share = sum(text.startswith(decode([letter])) for text in written) / count
    probability = float(expected[letter])
    assert abs(share - probability) < 5 * (probability * (1 - probability) / count) ** 0.5
