"""The acceptance head's file: what is written is read, and damage is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from updraft.acceptance_head import (
    FEATURES,
    AcceptanceHead,
    features_of,
    read_acceptance_head,
    write_acceptance_head,
)
from updraft.errors import BadModelFile, ConfigError, ModelNotFound, WrongTrunk


def tensors(width: int = 4, narrow: int = 3, blocks: int = 2) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "scale": (width,),
        "project.weight": (narrow, width + FEATURES),
        "project.bias": (narrow,),
        "out.weight": (narrow + FEATURES,),
        "out.bias": (1,),
    }
    for number in range(blocks):
        shapes |= {f"blocks.{number}.weight": (narrow, narrow), f"blocks.{number}.bias": (narrow,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


HEAD = AcceptanceHead(tensors(), "edge", "cloud", 6.0, {"positions": 7})
FLOATS = st.floats(-1e3, 1e3, width=32)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "head.safetensors"
    write_acceptance_head(path, HEAD)
    read = read_acceptance_head(path)
    assert (read.edge, read.cloud, read.rejected_weight, read.facts) == ("edge", "cloud", 6.0, {"positions": 7})
    state = np.array([1, -2, 3, 0.5], np.float32)
    assert read(state, 0.7, 1.2, -0.4) == HEAD(state, 0.7, 1.2, -0.4)
    assert (read.width, read.blocks) == (4, 2)


@given(st.lists(FLOATS, min_size=4, max_size=4), st.floats(0, 1), st.floats(0, 12), st.floats(-100, 0))
def test_any_state_has_a_probability(state: list[float], top: float, entropy: float, logprob: float) -> None:
    assert 0.0 <= HEAD(np.array(state, np.float32), top, entropy, logprob) <= 1.0


@given(st.floats(0, 1), st.floats(0, 12), st.floats(-100, 0))
def test_features_are_small(top: float, entropy: float, logprob: float) -> None:
    assert all(-3.0 <= value <= 3.0 for value in features_of(top, entropy, logprob))


def test_it_is_the_papers_residual_network() -> None:
    state, values = np.array([1, -2, 3, 0.5], np.float32), tensors()
    inputs = np.concatenate([state * values["scale"], np.array(features_of(0.7, 1.2, -0.4), np.float32)])
    inner = values["project.weight"] @ inputs + values["project.bias"]
    for number in range(2):
        update = values[f"blocks.{number}.weight"] @ inner + values[f"blocks.{number}.bias"]
        inner = inner + update / (1.0 + np.exp(-update))
    logit = values["out.weight"] @ np.concatenate([inner, inputs[4:]]) + values["out.bias"][0] + np.log(6.0)
    assert HEAD(state, 0.7, 1.2, -0.4) == pytest.approx(1.0 / (1.0 + np.exp(-logit)), abs=1e-5)


def test_a_head_is_for_one_model() -> None:
    HEAD.check(width=4, fingerprint="edge")
    with pytest.raises(WrongTrunk, match="other"):
        HEAD.check(width=4, fingerprint="other")
    with pytest.raises(BadModelFile, match="reads 4 values, the model gives 8"):
        HEAD.check(width=8, fingerprint="edge")


def test_a_missing_file_and_one_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        read_acceptance_head(tmp_path / "none.safetensors")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError):
        write_acceptance_head(tmp_path / "file" / "head.safetensors", HEAD)


FACTS = {"format": "updraft-acceptance-head-1", "edge": "e", "cloud": "c", "rejected_weight": "6.0"}


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({}, FACTS | {"format": "another"}),
        ({}, {name: value for name, value in FACTS.items() if name != "edge"}),
        ({}, FACTS | {"rejected_weight": "nan"}),
        ({}, FACTS | {"rejected_weight": "much"}),
        ({}, FACTS | {"facts": "{"}),
        ({"scale": None}, FACTS),
        ({"out.bias": np.zeros(2, np.float32)}, FACTS),
        ({"scale": np.full(4, np.nan, np.float32)}, FACTS),
        ({"scale": np.zeros(4, np.float64)}, FACTS),
        ({"blocks.7.weight": np.zeros((3, 3), np.float32)}, FACTS),
        ({"project.weight": np.zeros((3, 9), np.float32)}, FACTS),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, change: dict[str, Any], facts: dict[str, str]) -> None:
    values = {name: value for name, value in (tensors() | change).items() if value is not None}
    save_file(values, tmp_path / "head.safetensors", facts)
    with pytest.raises(BadModelFile, match="acceptance head"):
        read_acceptance_head(tmp_path / "head.safetensors")


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_clearly(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("head") / "head.safetensors"
    path.write_bytes(data)
    with pytest.raises(BadModelFile):
        read_acceptance_head(path)
