from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.shared.train.moe.conftest import RECIPE, rhymes
from updraft.errors import ConfigError
from updraft.models.moe.shape import MixtralShape
from updraft.train.conversations import Conversation
from updraft.train.moe.loop import MoePoint, MoeRecipe, mean_loss, train
from updraft.train.moe.model import Mixtral

Run = Callable[..., tuple[Mixtral, list[MoePoint]]]


class Interrupted(Exception):
    pass


@pytest.fixture
def run(tmp_path: Path, shape: MixtralShape, table: Tensor) -> Run:
    def start(
        name: str = "run", *, stop: int | None = None, recipe: MoeRecipe = RECIPE, text: Any = None
    ) -> tuple[Mixtral, list[MoePoint]]:
        def progress(done: int, total: int, point: MoePoint | None) -> None:
            assert total == recipe.steps
            if done == stop:
                raise Interrupted

        model = Mixtral(shape, table, recipe.seed)
        some, folder = text or rhymes(30), tmp_path / name
        return model, train(model, table, some, rhymes(4, seed=1), recipe=recipe, folder=folder, progress=progress)

    return start


def _same(first: Mixtral, second: Mixtral) -> bool:
    return all(bool((a == b).all()) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def _timeless(curve: list[MoePoint]) -> list[MoePoint]:
    return [replace(point, seconds=0) for point in curve]


def test_training_lowers_the_loss(run: Run, table: Tensor, shape: MixtralShape) -> None:
    _, curve = run(recipe=replace(RECIPE, steps=120, every=30, learning_rate=1e-2))
    assert [point.step for point in curve] == [30, 60, 90, 120]
    assert curve[-1].tokens == 120 * 2 * 32
    assert curve[-1].loss < curve[0].loss - 1
    assert curve[-1].held_out < mean_loss(Mixtral(shape, table), table, rhymes(4, seed=1)) - 1
    assert all(1 <= point.imbalance <= shape.experts for point in curve)


@pytest.mark.parametrize("stop", [4, 6, 9])
def test_an_interrupted_run_comes_to_the_same_end(run: Run, stop: int) -> None:
    whole, curve = run("whole")
    with pytest.raises(Interrupted):
        run(stop=stop)
    again, taken_up = run()
    assert _same(whole, again)
    assert _timeless(curve) == _timeless(taken_up)


def test_a_finished_run_is_not_trained_on(run: Run) -> None:
    first, curve = run()
    second, again = run()
    assert _same(first, second) and again == curve


def test_a_run_can_be_shortened_while_the_learning_rate_stays(run: Run) -> None:
    """It is then the run that would have been begun with fewer steps."""
    short = replace(RECIPE, steps=8)
    whole, _ = run("whole", recipe=short)
    with pytest.raises(Interrupted):
        run(stop=4, recipe=replace(RECIPE, steps=40))
    again, _ = run(recipe=short)
    assert _same(whole, again)


@pytest.mark.parametrize(("begun", "taken_up"), [(8, 40), (40, 4)])
def test_but_not_once_it_falls_or_should_have(run: Run, begun: int, taken_up: int) -> None:
    with pytest.raises(Interrupted):
        run(stop=8 if begun == 8 else 4, recipe=replace(RECIPE, steps=begun))
    with pytest.raises(ConfigError, match="learning rate falls"):
        run(recipe=replace(RECIPE, steps=taken_up))


@pytest.mark.parametrize("change", [{"seed": 1}, {"rows": 3}, {"balance": 0.1}, {"learning_rate": 1e-4}], ids=str)
def test_another_run_in_the_folder_is_refused(run: Run, change: dict[str, Any]) -> None:
    with pytest.raises(Interrupted):
        run(stop=4)
    with pytest.raises(ConfigError, match="another training run"):
        run(recipe=replace(RECIPE, **change))
    with pytest.raises(ConfigError, match="another training run"):
        run(text=rhymes(31))


def test_a_damaged_checkpoint_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(stop=4)
    path = tmp_path / "run/checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ConfigError, match="not a usable checkpoint"):
        run()


def test_the_learning_rate_rises_stays_and_falls() -> None:
    recipe = MoeRecipe(steps=100, warmup=10, decay=0.2, learning_rate=1.0)
    assert recipe.plateau == 80
    assert [recipe.rate(step) for step in (0, 4, 9, 50, 80, 90, 99)] == pytest.approx(
        [0.1, 0.5, 1.0, 1.0, 1.0, 0.5, 0.05]
    )


def test_the_push_evens_out_the_routing(run: Run) -> None:
    recipe = replace(RECIPE, steps=60, every=60, learning_rate=1e-2)
    _, free = run("free", recipe=replace(recipe, balance=0.0))
    _, pushed = run("pushed", recipe=replace(recipe, balance=1.0))
    assert pushed[-1].imbalance < free[-1].imbalance


def test_a_loss_that_is_not_finite_ends_the_run(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"the loss is nan after \d+ steps"):
        run(recipe=replace(RECIPE, learning_rate=1e38, warmup=1))


def test_the_mean_loss_is_over_the_whole_vocabulary(model: Mixtral, table: Tensor) -> None:
    tokens = torch.tensor([4, 8, 300, 9])
    with torch.inference_mode():
        final, _ = model(table[tokens[:-1]][None])
        logprobs = model.logits(final[0], table).log_softmax(-1)
    wanted = -float(logprobs[torch.arange(3), tokens[1:]].mean())
    assert mean_loss(model, table, [Conversation((4, 8), (300, 9))]) == pytest.approx(wanted, rel=1e-4)
    assert math.isclose(wanted, math.log(len(table)), rel_tol=0.3)
