from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.evaluation.curves import auc
from updraft.laboratory.task import Problem, problems, worked
from updraft.train.laboratory import measure
from updraft.train.laboratory.measure import accuracy, judgement, pass_at
from updraft.train.laboratory.model import LabModel
from updraft.train.laboratory.reward import Rollout


@given(st.integers(1, 7), st.data())
def test_pass_at_k_counts_subsets(samples: int, data: st.DataObject) -> None:
    right, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    subsets = list(combinations(range(samples), k))
    expected = sum(min(subset) < right for subset in subsets) / len(subsets)
    assert pass_at(k, samples, right) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=20))
def test_auc_counts_pairs(pairs: list[tuple[int, bool]]) -> None:
    right = [score for score, label in pairs if label]
    wrong = [score for score, label in pairs if not label]
    expected = [(a > b) + (a == b) / 2 for a in right for b in wrong]
    scores, labels = zip(*pairs, strict=True)
    found = auc(np.array(scores, np.float64), np.array(labels))
    assert found == pytest.approx(np.mean(expected) if expected else np.nan, nan_ok=True)


def test_accuracy_by_difficulty(model: LabModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that solves two steps always, three steps every other time, and four never."""
    asked: list[Problem] = []

    def answers(model: LabModel, some: list[Problem], temperature: float, seed: int) -> list[str]:
        assert temperature == 0.7
        asked.extend(some)
        good = [p.steps == 2 or (p.steps == 3 and n % 2 == 0) for n, p in enumerate(some)]
        return [worked(p, random.Random(0)) if ok else "nothing" for p, ok in zip(some, good, strict=True)]

    monkeypatch.setattr(measure, "answers", answers)
    found = accuracy(model, problems("test", 6, steps=[2, 3, 4]), 0.7, samples=4)
    assert len(asked) == 24 and found.by_steps == {2: 1.0, 3: 0.5, 4: 0.0}
    assert found.mean == found.passes[1] == 0.5 and found.unparsed == 0.5
    assert found.passes[4] == pytest.approx(4 / 6) and found.passes.keys() == {1, 4}


def test_a_judge_is_judged(model: LabModel, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problems("test", 1, steps=[1])[0]
    good = worked(problem, random.Random(0))
    rollouts = [Rollout(problem, good), Rollout(problem, good.replace("#", "#1")), Rollout(problem, "no line")]
    scores = [[0.9, 0.4], [0.8, 0.6], []]
    monkeypatch.setattr(measure, "step_scores", lambda model, some: [np.array(score) for score in scores])
    steps, whole = judgement(model, rollouts)
    assert (steps.right, steps.wrong, steps.false_positives) == (3, 1, 1.0)
    assert steps.auc == pytest.approx(2 / 3) and (whole.right, whole.wrong, whole.auc) == (1, 1, 0.0)  # 0.36 and 0.48
    assert steps.false_negatives == pytest.approx(1 / 3)


def test_where_all_are_right_there_is_no_area(model: LabModel, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problems("test", 1, steps=[1])[0]
    monkeypatch.setattr(measure, "step_scores", lambda model, some: [np.array([0.9, 0.4])])
    steps, whole = judgement(model, [Rollout(problem, worked(problem, random.Random(0)))])
    assert steps.auc is None and whole.auc is None
