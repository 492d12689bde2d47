from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from updraft.laboratory.task import parse_answer, parse_problem, problems, steps_of, worked
from updraft.laboratory.vocabulary import RIGHT, WRONG, encode
from updraft.train.laboratory.batches import IGNORED
from updraft.train.laboratory.model import LabModel, deepened
from updraft.train.laboratory.reward import Rollout, flawed, judged_example, step_scores

PROBLEM = parse_problem("7a+5b-4c*3")


@pytest.mark.parametrize(
    ("text", "labels", "verdicts", "right"),
    [
        ("7b-4\n3a+5\n8c*3\n#4\n", [True, True, True, True], "++++ ++++ ++++ ++ ++++", True),
        ("7b-4\n3a+5\n9c*3\n#7\n", [True, True, False, False], "++++ ++++ ---- ++ ++-+", False),
        ("7a+4\n#4\n", [False, False], "+++- -- --", True),  # by luck
        ("7a+5\n2b-", [True], "++++ +", False),  # not at its end
        ("nonsense", [], "", False),
        ("", [], "", False),
    ],
)
def test_verdicts_stand_at_every_token_of_steps(text: str, labels: list[bool], verdicts: str, right: bool) -> None:
    """Those within steps, in groups, then those at their ends: each by the step before, be it right or wrong."""
    rollout = Rollout(PROBLEM, text)
    assert rollout.labels == labels and rollout.right == right
    tokens, targets = judged_example(rollout)
    assert tokens == encode("7a+5b-4c*3\n" + text) and len(targets) == len(tokens)
    ends = [place for place in range(11, len(tokens)) if tokens[place] == encode("\n")[0]]
    last = ends[-1] + 1 if ends else 11
    assert {*targets[:11], *targets[last:]} <= {IGNORED}
    said = {RIGHT: "+", WRONG: "-"}
    inside = "".join(" " if place in ends else said[targets[place]] for place in range(11, last)).split()
    assert [*inside, "".join(said[targets[end]] for end in ends)] == (verdicts.split() or [""])


def test_a_score_is_one_verdict_against_the_other(model: LabModel) -> None:
    some = problems("test", 3)
    rollouts = [Rollout(problem, worked(problem, random.Random(0))) for problem in some]
    scores = step_scores(model, [*rollouts, Rollout(some[0], "no line")])
    assert [len(score) for score in scores] == [3, 4, 5, 0]
    tokens, _ = judged_example(rollouts[2])
    with torch.inference_mode():
        probabilities = torch.softmax(model(torch.tensor([tokens]))[0, -1], -1)
    expected = probabilities[RIGHT] / (probabilities[RIGHT] + probabilities[WRONG])
    assert scores[2][-1] == pytest.approx(float(expected), rel=1e-5)
    assert all(((score > 0) & (score < 1)).all() for score in scores) and np.ptp(np.concatenate(scores)) > 0


def test_a_deeper_model_is_the_same_until_it_is_trained(model: LabModel) -> None:
    deep = deepened(model, 2).eval()
    tokens = torch.tensor([encode("7a+5b-4c*3\n7b-4\n")])
    with torch.inference_mode():
        assert torch.equal(deep(tokens), model(tokens))
    assert deep.shape.layers == model.shape.layers + 2 == len(deep.trunk.layers)


def test_flawed_answers_are_answers_with_some_wrong_steps() -> None:
    draw, shares = random.Random(0), []
    for problem in problems("train", 200):
        text = flawed(problem, draw)
        steps = steps_of(problem, text)
        assert len(steps) == problem.steps + 1 and parse_answer(text) is not None
        shares += [step.right for step in steps]
    assert 0.75 < np.mean(shares) < 0.9
