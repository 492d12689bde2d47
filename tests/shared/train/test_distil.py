from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tests.shared.train.conftest import CPU, PREFIX
from updraft.errors import ConfigError
from updraft.models.weights import Weights
from updraft.train import distil as distillation
from updraft.train.conversations import Conversation
from updraft.train.distil import Point, Recipe, agreement, distil, hidden_of
from updraft.train.llama import Llama, of_trunk
from updraft.train.teacher import TeacherCache, cache_teacher

RECIPE = Recipe(epochs=2, batch_tokens=256, learning_rate=3e-3, evaluations=2)
CHECKPOINT = "checkpoint.safetensors"


class Interrupted(Exception):
    pass


@pytest.fixture
def run(
    tmp_path: Path, weights: Weights, training: TeacherCache, held_out: TeacherCache, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Llama, list[Point]]]:
    """Trains layer 2 of 4 as an exit, or other layers, in a folder of the test's."""
    monkeypatch.setattr(distillation, "_CHECKPOINT_STEPS", 7)

    def train(
        folder: str = "run",
        *,
        recipe: Recipe = RECIPE,
        layers: tuple[int, ...] = (2,),
        entry: int = 2,
        text: TeacherCache = training,
        stop: int | None = None,
    ) -> tuple[Llama, list[Point]]:
        def progress(step: int, _total: int, _point: Point | None) -> None:
            if step == stop:
                raise Interrupted

        model = of_trunk(weights, layers)
        curve = distil(
            model,
            weights,
            text,
            held_out,
            entry=entry,
            recipe=recipe,
            folder=tmp_path / folder,
            skip=len(PREFIX),
            device=CPU,
            progress=progress,
        )
        return model, curve

    return train


def _same(one: Llama, other: Llama) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _timeless(curve: list[Point]) -> list[Point]:
    return [replace(point, seconds=0.0) for point in curve]


def test_loss_falls_and_agreement_rises(run: Callable[..., Any], weights: Weights, held_out: TeacherCache) -> None:
    before = agreement(of_trunk(weights, [2]), weights, held_out, 2, CPU)
    model, curve = run(recipe=replace(RECIPE, epochs=4))
    losses = [point.loss for point in curve]
    assert losses[-1] < 0.9 * losses[0]
    assert curve[-1].agreement > before + 0.1
    assert curve[-1].agreement == agreement(model, weights, held_out, 2, CPU)
    assert [point.epoch for point in curve] == sorted(point.epoch for point in curve)
    assert curve[-1].epoch == 4
    assert curve[-1].positions > 3 * curve[0].positions


def test_a_student_learns_from_the_embedding_on(
    run: Callable[..., Any], weights: Weights, held_out: TeacherCache
) -> None:
    before = agreement(of_trunk(weights, [0, 3]), weights, held_out, 0, CPU)
    _, curve = run(layers=(0, 3), entry=0, recipe=replace(RECIPE, epochs=4))
    assert curve[-1].agreement > before
    assert curve[-1].loss < curve[0].loss


@pytest.mark.parametrize("stop", [3, 7, 20, 25])
def test_an_interrupted_run_comes_to_the_same_result_to_the_bit(run: Callable[..., Any], stop: int) -> None:
    model, curve = run("whole")
    with pytest.raises(Interrupted):
        run("cut", stop=stop)
    again, points = run("cut")
    assert _same(model, again)
    assert _timeless(points) == _timeless(curve)


def test_a_run_may_be_interrupted_again_and_again(run: Callable[..., Any]) -> None:
    model, curve = run("whole", layers=(0, 3), entry=0)
    for stop in (8, 15, 22, 23):
        with pytest.raises(Interrupted):
            run("cut", layers=(0, 3), entry=0, stop=stop)
    again, points = run("cut", layers=(0, 3), entry=0)
    assert _same(model, again)
    assert _timeless(points) == _timeless(curve)


def test_a_finished_run_is_only_read(run: Callable[..., Any]) -> None:
    model, curve = run()
    again, points = run(stop=0)
    assert _same(model, again)
    assert points == curve


def test_the_seed_decides(run: Callable[..., Any]) -> None:
    model, _ = run("a")
    same, _ = run("b")
    other, _ = run("c", recipe=replace(RECIPE, seed=1))
    assert _same(model, same)
    assert not _same(model, other)


@pytest.mark.parametrize(
    "change",
    [{"epochs": 3}, {"batch_tokens": 200}, {"learning_rate": 1e-3}, {"seed": 1}, {"feature_weight": 0.5}],
    ids=str,
)
def test_a_folder_with_another_recipe_is_refused(
    run: Callable[..., Any], tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(Interrupted):
        run(stop=7)
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    with pytest.raises(ConfigError, match="holds another training run"):
        run(recipe=replace(RECIPE, **change))
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == before


def test_a_folder_with_other_layers_or_text_is_refused(run: Callable[..., Any], held_out: TeacherCache) -> None:
    with pytest.raises(Interrupted):
        run(stop=7)
    for other in ({"layers": (2, 3)}, {"layers": (1,), "entry": 1}, {"text": held_out}):
        with pytest.raises(ConfigError, match="holds another training run"):
            run(**other)


def test_a_damaged_checkpoint_is_said(run: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(stop=7)
    path = tmp_path / "run" / CHECKPOINT
    whole = path.read_bytes()
    with safe_open(path, framework="pt") as opened:
        facts = opened.metadata()
    for facts_left in (facts, facts | {"curve": "["}, {"run": facts["run"]}, None):
        save_file({"x": torch.ones(1)}, path, facts_left)
        with pytest.raises(ConfigError, match="not a usable checkpoint"):
            run()
    for data in (b"", whole[:100], whole[:-1]):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match="not a usable checkpoint"):
            run()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left")])
def test_a_full_disk_leaves_the_last_checkpoint(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    import safetensors.torch

    model, _ = run("whole")
    with pytest.raises(Interrupted):
        run(stop=8)

    def full(_tensors: Any, path: Path, _facts: Any) -> None:
        path.write_bytes(b"begun")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", full)
        with pytest.raises(ConfigError, match="No space left"):
            run()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [CHECKPOINT]
    again, _ = run()
    assert _same(model, again)


def test_a_loss_that_is_not_finite_ends_the_run(run: Callable[..., Any], training: TeacherCache) -> None:
    broken = replace(training, final=np.full_like(training.final, np.nan))
    with pytest.raises(ConfigError, match="the loss is nan after 0 steps"):
        run(text=broken)


def test_short_plain_text_among_conversations(tmp_path: Path, weights: Weights, held_out: TeacherCache) -> None:
    """Pieces shorter than the template's prefix; a batch of them alone has no row left."""
    text = [Conversation((), (5, 6)), Conversation((), (9,)), Conversation(PREFIX, tuple(range(40, 60)))]
    cache = cache_teacher(tmp_path / "teacher", weights, text, [2], device=CPU)
    recipe = Recipe(epochs=2, batch_tokens=4)
    model = of_trunk(weights, [2])
    options: dict[str, Any] = {"entry": 2, "recipe": recipe, "folder": tmp_path, "skip": len(PREFIX), "device": CPU}
    curve = distil(model, weights, cache, held_out, **options)
    assert all(math.isfinite(point.loss) for point in curve)
    assert agreement(model, weights, cache, 2, CPU) >= 0


def test_the_trunk_agrees_with_itself(weights: Weights, held_out: TeacherCache) -> None:
    assert agreement(of_trunk(weights), weights, held_out, 0, CPU) > 0.97  # both sides in bfloat16, padded otherwise
    assert agreement(of_trunk(weights, [2, 3]), weights, held_out, 2, CPU) > 0.9  # from states in half precision


def test_states_that_predict_the_answers(weights: Weights, held_out: TeacherCache) -> None:
    places = [place for _, place in hidden_of(of_trunk(weights, [3]), weights, held_out, 2, CPU)]
    assert len(places) == len(held_out)
    for number, place in enumerate(places):
        assert place.start == held_out.offsets[number] + held_out.answers[number] - 1
        assert place.stop == held_out.offsets[number + 1] - 1


def test_what_makes_a_run_this_run_is_kept(run: Callable[..., Any], tmp_path: Path) -> None:
    """Runs under way are continued across versions: the key and the names must not change by accident."""
    run(recipe=replace(RECIPE, epochs=1))
    with safe_open(tmp_path / "run" / CHECKPOINT, framework="pt") as opened:
        facts, names = opened.metadata(), set(opened.keys())
    key = json.loads(facts["run"])
    assert set(asdict(RECIPE)) | {"entry", "skip", "steps", "text", "layers"} == set(key)
    assert {"norm.weight", "norm.weight#mean", "norm.weight#square", "layers.0.mlp.up_proj.weight"} <= names
    assert set(facts) == {"run", "step", "positions", "losses", "curve"}
    shutil.rmtree(tmp_path / "run")
