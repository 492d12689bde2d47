from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.shared.train.laboratory.conftest import TINY
from updraft.errors import ConfigError
from updraft.train.laboratory.batches import worked_examples
from updraft.train.laboratory.loop import LabPoint, LabRecipe, train_lab
from updraft.train.laboratory.model import LabModel

RECIPE = LabRecipe(steps=60, rows=8, learning_rate=1e-2, warmup=4, every=5)
DRAW = worked_examples(0)


class Interrupted(Exception):
    pass


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    points: list[LabPoint] = []
    model = LabModel(TINY, 0)
    curve = train_lab(model, DRAW, RECIPE, tmp_path, points.append)
    assert points == curve and not model.training
    assert [point.step for point in curve[:3]] == [5, 10, 15]
    assert curve[0].loss > 3 and curve[-1].loss < curve[0].loss - 1
    assert curve[-1].step == 60
    tokens = [point.tokens for point in curve]
    assert tokens == sorted(tokens) and tokens[0] > 5 * 8 * 10


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    def stop(point: LabPoint) -> None:
        if point.step == 10:
            raise Interrupted

    model = LabModel(TINY, 0)
    with pytest.raises(Interrupted):
        train_lab(model, DRAW, RECIPE, tmp_path, stop)
    points: list[LabPoint] = []
    again = LabModel(TINY, 5)
    curve = train_lab(again, DRAW, RECIPE, tmp_path, points.append)
    assert [point.step for point in curve[:3]] == [5, 10, 15] and points[0].step == 15
    assert points[0].seconds > curve[1].seconds and points[0].loss < curve[1].loss + 0.5
    assert train_lab(LabModel(TINY, 5), DRAW, RECIPE, tmp_path) == curve  # there is nothing left to do


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    short = replace(RECIPE, steps=4)
    train_lab(LabModel(TINY, 0), DRAW, short, tmp_path)
    for other in (replace(short, seed=1), replace(short, rows=9)):
        with pytest.raises(ConfigError, match="another training run"):
            train_lab(LabModel(TINY, 0), DRAW, other, tmp_path)


def test_a_run_can_be_given_more_steps(tmp_path: Path) -> None:
    short = train_lab(LabModel(TINY, 0), DRAW, replace(RECIPE, steps=20), tmp_path)
    longer = train_lab(LabModel(TINY, 0), DRAW, RECIPE, tmp_path)
    assert longer[: len(short)] == short and longer[-1].loss < short[-1].loss


def test_a_run_ends_with_the_first_loss_that_is_enough(tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=2000, enough=3.0)
    curve = train_lab(LabModel(TINY, 0), DRAW, recipe, tmp_path)
    assert curve[-1].loss <= 3.0 < min(point.loss for point in curve[:-1])
    assert train_lab(LabModel(TINY, 0), DRAW, recipe, tmp_path) == curve


def test_a_loss_that_is_not_finite_is_reported(tmp_path: Path) -> None:
    model = LabModel(TINY, 0)
    model.trunk.norm.weight.data.fill_(math.inf)
    with pytest.raises(ConfigError, match="after 0 steps"):
        train_lab(model, DRAW, RECIPE, tmp_path)


def test_the_rate_rises_and_falls() -> None:
    recipe = LabRecipe(steps=600, learning_rate=1.0, warmup=10)
    assert [recipe.rate(step) for step in (0, 4, 9, 99)] == pytest.approx([0.1, 0.5, 1, 1])
    assert recipe.rate(400) == 1 and recipe.rate(500) == pytest.approx(0.5)
    assert recipe.rate(599) == recipe.rate(700) == pytest.approx(0.01)


def test_the_same_recipe_gives_the_same_model(tmp_path: Path) -> None:
    recipe, models = replace(RECIPE, steps=6), [LabModel(TINY, 0), LabModel(TINY, 0)]
    for number, model in enumerate(models):
        train_lab(model, DRAW, recipe, tmp_path / str(number))
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)
