from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.fakes.tiny_model import write_tiny_model
from updraft.errors import BadModelFile, ConfigError, ModelNotFound, WrongTrunk
from updraft.models.moe.packed import PackedMoe, read_moe, write_moe
from updraft.models.weights import Weights, read_weights

GATE = "model.layers.0.block_sparse_moe.gate.weight"
EXPERT = "model.layers.1.block_sparse_moe.experts.2.w3.weight"


@pytest.fixture
def path(tmp_path: Path, moe: PackedMoe) -> Path:
    write_moe(moe, tmp_path / "good.safetensors")
    return tmp_path / "good.safetensors"


def _changed(path: Path, tensors: dict[str, Any] | None = None, **facts: str | None) -> Path:
    """The file with other tensors or facts; None removes one."""
    with safe_open(path, framework="np") as opened:
        described = {**(opened.metadata() or {}), **facts}
    packed = load_file(path) | (tensors or {})
    save_file({k: v for k, v in packed.items() if v is not None}, path, {k: v for k, v in described.items() if v})
    return path


def test_what_is_written_is_read(path: Path, moe: PackedMoe) -> None:
    again = read_moe(path)
    assert (again.shape, again.trunk, again.facts) == (moe.shape, moe.trunk, moe.facts)
    assert again.tensors.keys() == moe.tensors.keys()
    for name, values in moe.tensors.items():
        exact = values.ndim == 1
        half_a_step = 0 if exact else np.abs(values).max(axis=1, keepdims=True) / 127 * 0.502 + 1e-6
        assert (np.abs(again.tensors[name] - values) <= half_a_step).all(), name


def test_routers_and_projections_keep_half_precision(path: Path) -> None:
    kinds = {name: values.dtype for name, values in load_file(path).items()}
    assert {kinds[name] for name in (GATE, "input", "output")} == {np.dtype(np.float16)}
    assert kinds[EXPERT] == np.int8 and kinds[f"{EXPERT}.scale"] == np.float16


def test_the_vocabulary_s_matrices_come_from_the_trunk(moe: PackedMoe, trunk: Weights) -> None:
    embedding, output = moe.matrices(trunk)
    table = trunk["model.embed_tokens.weight"]
    np.testing.assert_allclose(embedding[7], table[7] @ moe.tensors["input"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(output[7], table[7] @ moe.tensors["output"] / 32**0.5, rtol=1e-4, atol=1e-5)


def test_another_trunk_is_refused(moe: PackedMoe, tmp_path: Path) -> None:
    with pytest.raises(WrongTrunk, match="trained on the model"):
        moe.matrices(read_weights(write_tiny_model(tmp_path / "other.gguf", seed=1)))


def test_a_trunk_of_another_width_is_refused(moe: PackedMoe, tmp_path: Path) -> None:
    other = read_weights(write_tiny_model(tmp_path / "other.gguf", width=128))
    with pytest.raises(BadModelFile, match="projections"):
        replace(moe, trunk=other.fingerprint).matrices(other)


@pytest.mark.parametrize(
    ("tensors", "facts"),
    [
        ({GATE: None}, {}),
        ({GATE: np.zeros((3, 32), np.float16)}, {}),
        ({GATE: np.full((4, 32), np.nan, np.float16)}, {}),
        ({"extra": np.zeros(2, np.float32)}, {}),
        ({"input": np.zeros((64, 31), np.float16)}, {}),
        ({"input": None, "output": None}, {}),
        ({f"{EXPERT}.scale": None}, {}),
        ({f"{EXPERT}.scale": np.zeros(3, np.float16)}, {}),
        ({}, {"format": "updraft-rung-1"}),
        ({}, {"trunk": None}),
        ({}, {"shape": "[]"}),
        ({}, {"shape": "{"}),
        ({}, {"facts": None}),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(path: Path, tensors: dict[str, Any], facts: dict[str, str | None]) -> None:
    with pytest.raises(BadModelFile):
        read_moe(_changed(path, tensors, **facts))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_refused_or_read(path: Path, data: st.DataObject) -> None:
    """Whatever bytes change, nothing but BadModelFile comes of it."""
    whole = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(whole[:8], "little")
    at = data.draw(st.integers(0, header - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    damaged = path.with_name("damaged.safetensors")
    damaged.write_bytes(whole)
    try:
        read_moe(damaged)
    except BadModelFile:
        pass


def test_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        read_moe(tmp_path / "gone.safetensors")


def test_a_folder_that_cannot_be_made(tmp_path: Path, moe: PackedMoe) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_moe(moe, tmp_path / "file/a.safetensors")


def test_facts_are_json(path: Path) -> None:
    with safe_open(path, framework="np") as opened:
        assert json.loads((opened.metadata() or {})["facts"]) == {"seed": 0}
