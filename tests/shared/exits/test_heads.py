from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared.exits.examples import WIDTH, constant_head, random_head
from updraft.errors import BadModelFile, ModelNotFound
from updraft.exits.heads import ExitHead, read_head, write_head


def test_a_head_is_affine_layers_with_tanh_between_them() -> None:
    head = ExitHead(
        [np.array([[1.0, 2.0]], np.float32), np.array([[3.0], [-1.0]], np.float32)],
        [np.array([0.5], np.float32), np.array([0.25, 0.0], np.float32)],
    )
    inside = math.tanh(0.1 + 2 * 0.2 + 0.5)
    says = head(np.array([0.1, 0.2], np.float32))
    assert says.agrees == pytest.approx(1 / (1 + math.exp(-(3 * inside + 0.25))), abs=1e-6)
    assert says.hopeless == pytest.approx(1 / (1 + math.exp(inside)), abs=1e-6)


@given(st.integers(0, 1000), st.floats(-1e30, 1e30))
def test_probabilities_stay_inside_0_and_1_and_rows_do_not_see_each_other(seed: int, size: float) -> None:
    head = random_head(seed, 5, 4)
    features = np.random.default_rng(seed).normal(size=(7, WIDTH)).astype(np.float32)
    features[3] = size
    both = head.probabilities(features)
    assert ((both >= 0) & (both <= 1)).all()
    alone = [head(row) for row in features]
    assert both == pytest.approx(np.array([(says.agrees, says.hopeless) for says in alone]), abs=1e-5)


@given(st.integers(0, 1000), st.lists(st.integers(1, 5), max_size=3))
@settings(max_examples=20, deadline=None)
def test_a_saved_head_is_read_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, seed: int, sizes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("model") / "head.safetensors"
    head = random_head(seed, *sizes)
    write_head(path, head)
    read = read_head(path, WIDTH).tensors()
    assert read.keys() == head.tensors().keys()
    for name, values in head.tensors().items():
        np.testing.assert_array_equal(read[name], values)


def tensors(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = random_head(0, 4).tensors()
    for name, value in changes.items():
        key = name.replace("_", ".")
        if value is None:
            del whole[key]
        else:
            whole[key] = value
    return whole


@pytest.mark.parametrize(
    "changes",
    [
        {"head_0_weight": None},
        {"head_1_bias": None},
        {"head_2_bias": np.zeros(2, np.float32)},
        {"head_0_weight": np.zeros((4, WIDTH + 1), np.float32)},
        {"head_0_weight": np.zeros(WIDTH, np.float32)},
        {"head_0_bias": np.zeros(3, np.float32)},
        {"head_1_weight": np.zeros((3, 4), np.float32), "head_1_bias": np.zeros(3, np.float32)},
        {"head_1_bias": np.array([0, np.nan], np.float32)},
        {"head_x_bias": np.zeros(3, np.float32)},
    ],
)
def test_tensors_that_make_no_head_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadModelFile):
        ExitHead.from_tensors(tensors(**changes), WIDTH)


def test_other_tensors_of_a_rung_are_left_alone() -> None:
    head = ExitHead.from_tensors({**tensors(), "norm.weight": np.ones(WIDTH)}, WIDTH)
    assert head.width == WIDTH


def test_files_that_hold_no_head_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "head.safetensors"
    with pytest.raises(ModelNotFound):
        read_head(path, WIDTH)
    for data in (b"", b"\xff" * 64, (2**60).to_bytes(8, "little") + b"{}"):
        path.write_bytes(data)
        with pytest.raises(BadModelFile, match="holds no exit head"):
            read_head(path, WIDTH)
    save_file({"norm.weight": np.zeros(WIDTH, np.float32)}, path)
    with pytest.raises(BadModelFile, match="none"):
        read_head(path, WIDTH)
    write_head(path, constant_head(0.5))
    with pytest.raises(BadModelFile, match="reads 7"):
        read_head(path, WIDTH + 1)
