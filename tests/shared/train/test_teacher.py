from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.shared.train.conftest import CPU, conversations
from updraft.errors import ConfigError, InvalidRequest
from updraft.models.weights import Weights
from updraft.train import teacher
from updraft.train.llama import of_trunk
from updraft.train.teacher import BEST, TeacherCache, cache_teacher

TEXT = conversations(30, seed=3)


class Interrupted(Exception):
    pass


def _stop_after(batches: int) -> Callable[[int, int], None]:
    calls = iter(range(batches - 1))

    def progress(_done: int, _total: int) -> None:
        if next(calls, None) is None:
            raise Interrupted

    return progress


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "_BATCH_TOKENS", 200)


def test_it_holds_what_the_model_computes(tmp_path: Path, weights: Weights) -> None:
    cache = cache_teacher(tmp_path, weights, TEXT, [0, 2], device=CPU)
    assert list(cache.boundaries) == [2]
    assert len(cache) == len(TEXT)
    model, output = of_trunk(weights), torch.from_numpy(weights.output)
    embedding = torch.from_numpy(weights["model.embed_tokens.weight"])
    for number in (0, 17, 29):
        text = TEXT[number]
        place = slice(int(cache.offsets[number]), int(cache.offsets[number + 1]))
        assert cache.tokens[place].tolist() == [*text.prompt, *text.response]
        assert cache.answers[number] == len(text.prompt)
        with torch.inference_mode():
            after2, last = model.states(embedding[torch.from_numpy(text.tokens.astype(np.int64))][None], [2])
            final = model.norm(last)[0]
            logprobs = torch.log_softmax(final @ output.T, -1).numpy()
        # The teacher runs in bfloat16: 8 bits of mantissa.
        np.testing.assert_allclose(cache.boundaries[2][place], after2[0].numpy(), atol=0.1)
        np.testing.assert_allclose(cache.final[place], final.numpy(), atol=0.1)
        kept = np.take_along_axis(logprobs, cache.best[place].astype(np.int64), -1)
        np.testing.assert_allclose(cache.logprobs[place], kept, atol=0.6)
        assert (cache.best[place, 0] == logprobs.argmax(-1)).mean() > 0.8


def test_the_best_tokens_are_the_best_ones_in_order(training: TeacherCache, weights: Weights) -> None:
    assert training.best.shape == (len(training.tokens), BEST)
    assert (np.diff(training.logprobs.astype(np.float32), axis=1) <= 0).all()
    logits = training.final[:50].astype(np.float32) @ weights.output.T
    chosen = np.take_along_axis(logits, training.best[:50].astype(np.int64), -1)
    worst = np.sort(logits, -1)[:, -BEST]
    assert (chosen >= worst[:, None] - 0.05).all()
    total = np.exp(training.logprobs.astype(np.float32)).sum(-1)
    assert (total <= 1.01).all() and total.mean() > 0.8


@pytest.mark.usefixtures("small_batches")
def test_an_interrupted_run_ends_in_the_same_bytes(tmp_path: Path, weights: Weights) -> None:
    cache_teacher(tmp_path / "whole", weights, TEXT, [1], device=CPU)
    with pytest.raises(Interrupted):
        cache_teacher(tmp_path / "cut", weights, TEXT, [1], device=CPU, progress=_stop_after(2))
    done = int((tmp_path / "cut/done").read_text())
    assert 0 < done < len(TEXT)
    seen: list[int] = []
    cache_teacher(
        tmp_path / "cut", weights, TEXT, [1], device=CPU, progress=lambda positions, _: seen.append(positions)
    )
    assert min(seen) > sum(len(c.tokens) for c in TEXT[:done])  # what was done was not done again
    assert _files(tmp_path / "cut") == _files(tmp_path / "whole")


def test_a_cache_with_more_layers_is_used(tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_teacher(tmp_path, weights, TEXT, [1, 2], device=CPU)
    before = _files(tmp_path)
    monkeypatch.setattr(teacher, "of_trunk", lambda _: pytest.fail("the model was asked again"))
    again = cache_teacher(tmp_path, weights, TEXT, [2], device=CPU)
    assert set(again.boundaries) == {1, 2}
    assert _files(tmp_path) == before


@pytest.mark.usefixtures("small_batches")
def test_an_unfinished_cache_with_more_layers_is_finished(tmp_path: Path, weights: Weights) -> None:
    with pytest.raises(Interrupted):
        cache_teacher(tmp_path / "cut", weights, TEXT, [1, 2], device=CPU, progress=_stop_after(2))
    cache_teacher(tmp_path / "cut", weights, TEXT, [1], device=CPU)
    cache_teacher(tmp_path / "whole", weights, TEXT, [1, 2], device=CPU)
    assert _files(tmp_path / "cut") == _files(tmp_path / "whole")


@pytest.mark.parametrize("change", ["text", "layers", "trunk", "cut"])
def test_anything_else_starts_anew(tmp_path: Path, weights: Weights, change: str) -> None:
    cache_teacher(tmp_path / "used", weights, TEXT, [1], device=CPU)
    text, layers = TEXT, [1]
    if change == "text":
        text = [*TEXT[:-1], replace(TEXT[-1], response=(7, *TEXT[-1].response[1:]))]
    elif change == "cut":  # the same tokens, divided in another way
        both = TEXT[-2], TEXT[-1]
        moved = replace(both[0], response=both[0].response + both[1].prompt[:1])
        text = [*TEXT[:-2], moved, replace(both[1], prompt=both[1].prompt[1:])]
    elif change == "layers":
        layers = [1, 3]
    else:
        weights = Weights(weights.shape, "other", weights._source)
    cache_teacher(tmp_path / "used", weights, text, layers, device=CPU)
    cache_teacher(tmp_path / "new", weights, text, layers, device=CPU)
    assert _files(tmp_path / "used") == _files(tmp_path / "new")


@pytest.mark.parametrize(
    ("name", "content"),
    [("done", ""), ("done", None), ("index.json", "{"), ("index.json", "[]"), ("best.bin", None), ("after1.bin", None)],
)
def test_a_damaged_cache_is_made_anew(tmp_path: Path, weights: Weights, name: str, content: str | None) -> None:
    cache_teacher(tmp_path, weights, TEXT, [1], device=CPU)
    whole = _files(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    cache_teacher(tmp_path, weights, TEXT, [1], device=CPU)
    assert _files(tmp_path) == whole


def test_work_that_was_lost_before_it_began_leaves_no_half_cache(
    tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_teacher(tmp_path, weights, TEXT, [1], device=CPU)
    with monkeypatch.context() as patch:
        patch.setattr(np, "memmap", lambda *_, **__: (_ for _ in ()).throw(Interrupted))
        with pytest.raises(Interrupted):
            cache_teacher(tmp_path, weights, TEXT[:5], [1], device=CPU)
    again = cache_teacher(tmp_path, weights, TEXT, [1], device=CPU)
    assert np.any(again.final[0] != 0)


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 1 << 40, 1000))
    with pytest.raises(ConfigError, match="0 MiB free"):
        cache_teacher(tmp_path, weights, TEXT, [1], device=CPU)
    assert list(tmp_path.iterdir()) == []


def test_layers_that_the_model_does_not_have_are_refused(tmp_path: Path, weights: Weights) -> None:
    with pytest.raises(InvalidRequest, match="no layer 4"):
        cache_teacher(tmp_path, weights, TEXT, [4], device=CPU)


def test_the_index_names_text_and_trunk(tmp_path: Path, weights: Weights) -> None:
    cache_teacher(tmp_path, weights, TEXT[:3], [1], device=CPU)
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["trunk"] == weights.fingerprint
    assert index["layers"] == [1]
