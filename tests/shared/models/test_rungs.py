from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tests.fakes.tiny_model import write_tiny_model
from updraft.errors import BadModelFile, ConfigError, ModelNotFound, WrongTrunk
from updraft.models.rungs import Precision, Rung, layers_text, read_rung, write_rung
from updraft.models.weights import BLOCK_SUFFIXES, Weights, read_weights

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FACTS = {
    "format": "updraft-rung-1",
    "kind": "exit",
    "trunk": "f" * 64,
    "sources": "[0, 1]",
    "trained": "[1]",
    "facts": "{}",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return read_weights(write_tiny_model(tmp_path_factory.mktemp("trunk") / "tiny.gguf", layers=4))


def _rung(
    weights: Weights, kind: Literal["exit", "student"] = "exit", sources: tuple[int, ...] = (0, 1), frozen: int = 1
) -> Rung:
    """An untrained rung: copies of trunk layers and norm, and a small head."""
    trained = range(frozen, len(sources))
    tensors = {f"layers.{n}.{suffix}": v for n in trained for suffix, v in weights.block(sources[n]).items()}
    tensors["norm.weight"] = weights["model.norm.weight"]
    if kind == "exit":
        head = np.random.default_rng(0).standard_normal((2, weights.shape.width))
        tensors |= {"head.0.weight": head.astype(np.float32), "head.0.bias": np.array([0.1, -3], np.float32)}
    return Rung(kind, weights.fingerprint, sources, frozenset(trained), tensors, {"seconds": 1.5, "name": "ü"})


@pytest.fixture
def path(tmp_path: Path, weights: Weights) -> Path:
    """A good rung in int8."""
    write_rung(_rung(weights), tmp_path / "good.safetensors")
    return tmp_path / "good.safetensors"


def _changed(path: Path, tensors: dict[str, NDArray[Any] | None] | None = None, **facts: str | None) -> Path:
    """A rung's file with other tensors or facts; None removes one."""
    packed = load_file(path) | (tensors or {})
    described = {**FACTS, **facts}
    save_file(
        {name: values for name, values in packed.items() if values is not None},
        path,
        {name: value for name, value in described.items() if value is not None},
    )
    return path


@pytest.mark.parametrize("kind", ["exit", "student"])
def test_full_precision_reads_back_equal(tmp_path: Path, weights: Weights, kind: Literal["exit", "student"]) -> None:
    rung = _rung(weights, kind, (0, 1, 2) if kind == "exit" else (0, 2, 3), 2 if kind == "exit" else 1)
    write_rung(rung, tmp_path / "made/here/a.safetensors", "float32")
    again = read_rung(tmp_path / "made/here/a.safetensors")
    assert (again.kind, again.trunk, again.sources) == (rung.kind, rung.trunk, rung.sources)
    assert (again.trained, again.facts, again.layer) == (rung.trained, rung.facts, 2)
    assert again.tensors.keys() == rung.tensors.keys()
    assert all((again.tensors[name] == values).all() for name, values in rung.tensors.items())
    assert (again.norm == weights["model.norm.weight"]).all()
    assert all(values.dtype == np.float32 for values in again.tensors.values())
    again.check_trunk(weights)
    assert (tmp_path / "made/here/a.safetensors").stat().st_mode & 0o777 == 0o644  # others may read what is shipped


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_lower_precisions_keep_what_they_can(tmp_path: Path, weights: Weights, precision: Precision) -> None:
    rung = _rung(weights)
    write_rung(rung, tmp_path / "a.safetensors", precision)
    for name, values in read_rung(tmp_path / "a.safetensors").tensors.items():
        exact = rung.tensors[name]
        if exact.ndim == 1:
            assert (values == exact).all()
        elif precision == "int8" and name.startswith("layers."):
            largest = np.abs(exact).max(axis=1, keepdims=True)
            assert (np.abs(values - exact) <= largest / 127 * 0.502 + 1e-7).all()  # half a step
        else:
            np.testing.assert_allclose(values, exact, rtol=2**-11, atol=2**-24)


def test_int8_files_are_a_quarter(tmp_path: Path, weights: Weights) -> None:
    sizes: dict[Precision, int] = {}
    for precision in ("int8", "float16", "float32"):
        write_rung(_rung(weights), tmp_path / precision, precision)
        sizes[precision] = (tmp_path / precision).stat().st_size
    assert sizes["int8"] < 0.35 * sizes["float32"]
    assert sizes["float16"] < 0.6 * sizes["float32"]


@FUZZ
@given(st.integers(0, 2**32 - 1), st.floats(-30, 10))
def test_int8_rows_of_any_scale(tmp_path: Path, weights: Weights, seed: int, exponent: float) -> None:
    random = np.random.default_rng(seed)
    rung = _rung(weights)
    name = "layers.1.self_attn.k_proj.weight"
    rows = (random.standard_normal((32, 64)) * 2.0**exponent).astype(np.float32)
    rows[random.integers(32)] = 0
    write_rung(replace(rung, tensors={**rung.tensors, name: rows}), tmp_path / "a.safetensors")
    again = read_rung(tmp_path / "a.safetensors").tensors[name]
    step = np.abs(rows).max(axis=1, keepdims=True) / 127 * 1.002 + 1.2e-7  # float16 has no finer scale
    assert (np.abs(again - rows) <= step / 2 * 1.001).all()


def test_blocks_are_the_trunks_unless_trained(weights: Weights) -> None:
    rung = _rung(weights, "student", (0, 2, 3), 2)
    altered = {**rung.tensors, "layers.2.mlp.up_proj.weight": np.zeros((128, 64), np.float32)}
    rung = replace(rung, tensors=altered)
    assert (rung.block(1, weights)["mlp.up_proj.weight"] == weights["model.layers.2.mlp.up_proj.weight"]).all()
    assert not rung.block(2, weights)["mlp.up_proj.weight"].any()
    assert rung.block(0, weights).keys() == rung.block(2, weights).keys() == BLOCK_SUFFIXES.keys()


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"format": None}, "its format is None"),
        ({"format": "updraft-rung-2"}, "its format is 'updraft-rung-2'"),
        ({"kind": None}, "no usable 'kind'"),
        ({"kind": "ladder"}, "its kind is 'ladder'"),
        ({"trunk": None}, "no usable 'trunk'"),
        ({"sources": None}, "no usable 'sources'"),
        ({"sources": "0, 1"}, "no usable"),
        ({"sources": "1"}, "no usable"),
        ({"sources": "[" * 50_000}, "no usable"),
        ({"sources": "[]"}, "out of range"),
        ({"sources": "[0, -1]"}, "out of range"),
        ({"sources": "[0, 4096]"}, "out of range"),
        ({"sources": "[0, 1.0]"}, "out of range"),
        ({"sources": '["0", "1"]'}, "out of range"),
        ({"sources": "[false, true]"}, "out of range"),
        ({"sources": "[[0], [1]]"}, "out of range"),
        ({"sources": json.dumps(list(range(5000)))}, "out of range"),
        ({"sources": "[1, 0]", "kind": "student"}, "unordered"),
        ({"sources": "[1, 1]", "kind": "student"}, "unordered"),
        ({"trained": "[[1]]"}, "no usable"),
        ({"trained": "[]"}, "trained layers are not among"),
        ({"trained": "[2]"}, "trained layers are not among"),
        ({"trained": '["1"]'}, "trained layers are not among"),
        ({"trained": "[true]"}, "tensors differ"),
        ({"trained": "[0]"}, "an exit is the trunk's first layers"),
        ({"trained": "[0, 1]"}, "an exit is the trunk's first layers"),
        ({"sources": "[0, 2]"}, "an exit is the trunk's first layers"),
        ({"sources": "[0, 1, 2]"}, "an exit is the trunk's first layers"),
        ({"kind": "student", "trained": "[0, 1]"}, "tensors differ"),
        ({"facts": "[]"}, "not a JSON object"),
        ({"facts": "{"}, "no usable"),
    ],
)
def test_a_description_that_does_not_hold_is_refused(path: Path, facts: dict[str, str | None], reason: str) -> None:
    with pytest.raises(BadModelFile, match=reason):
        read_rung(_changed(path, None, **facts))


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"norm.weight": None}, "first in norm.weight"),
        ({"layers.1.mlp.up_proj.weight": None}, "first in layers.1.mlp.up_proj.weight"),
        ({"layers.1.mlp.up_proj.weight.scale": None}, "no usable"),
        ({"layers.1.mlp.up_proj.weight.scale": np.ones((3, 3), np.float16)}, "no usable"),
        ({"layers.1.mlp.up_proj.weight.scale": np.array(1, np.float16)}, "no usable"),
        ({"layers.0.mlp.up_proj.weight": np.ones((2, 2), np.float32)}, "first in layers.0"),
        ({"surprise": np.ones(2, np.float32)}, "first in surprise"),
        ({"norm.weight": np.full(64, np.nan, np.float32)}, "norm.weight holds numbers that are not finite"),
        ({"head.0.bias": np.array([0, np.inf], np.float32)}, "head.0.bias holds"),
    ],
)
def test_tensors_that_do_not_fit_the_description_are_refused(
    path: Path, tensors: dict[str, NDArray[Any] | None], reason: str
) -> None:
    with pytest.raises(BadModelFile, match=reason):
        read_rung(_changed(path, tensors))


@pytest.mark.parametrize("kept", [0, 7, 8, 100, -1])
def test_a_file_that_was_cut_off_is_refused(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadModelFile, match="not a rung"):
        read_rung(path)


def test_other_files_are_refused(tmp_path: Path, tiny_model_path: Path) -> None:
    with pytest.raises(BadModelFile):
        read_rung(tiny_model_path)
    with pytest.raises(ModelNotFound):
        read_rung(tmp_path)
    with pytest.raises(ModelNotFound):
        read_rung(tmp_path / "nothing.safetensors")
    save_file({"norm.weight": np.ones(3, np.float32)}, tmp_path / "plain.safetensors")
    with pytest.raises(BadModelFile, match="format is None"):
        read_rung(tmp_path / "plain.safetensors")


@FUZZ
@given(st.data())
def test_no_description_is_answered_with_anything_but_a_refusal(tmp_path: Path, weights: Weights, data: Any) -> None:
    path = tmp_path / "rung.safetensors"
    write_rung(_rung(weights), path)
    values = st.one_of(
        st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists).map(json.dumps),
        st.lists(st.integers(-1, 5), max_size=4).map(json.dumps),
        st.text(),
    )
    facts = data.draw(st.dictionaries(st.sampled_from([*FACTS, "extra"]), values, min_size=1, max_size=3))
    try:
        rung = read_rung(_changed(path, None, **facts))
    except BadModelFile:
        return
    assert rung.kind == "exit" or rung.sources == (0, 1)
    assert rung.trained <= set(range(len(rung.sources)))


@FUZZ
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_bytes_that_were_damaged(tmp_path: Path, weights: Weights, at: int, patch: bytes) -> None:
    path = tmp_path / "rung.safetensors"
    write_rung(_rung(weights), path)
    data = bytearray(path.read_bytes())
    at %= 1500  # the header and the first numbers
    data[at : at + len(patch)] = patch
    path.write_bytes(data)
    try:
        read_rung(path).check_trunk(weights)
    except (BadModelFile, WrongTrunk):
        pass


def test_an_exit_for_another_trunk_is_refused(tmp_path: Path, weights: Weights) -> None:
    other = read_weights(write_tiny_model(tmp_path / "other.gguf", layers=4, noise=0.01))
    with pytest.raises(WrongTrunk, match="was trained on the model"):
        _rung(weights).check_trunk(other)


def test_layers_and_shapes_must_fit_the_trunk(weights: Weights) -> None:
    student = _rung(weights, "student", (0, 3))
    student.check_trunk(weights)
    with pytest.raises(BadModelFile, match="uses layer 4 of 4"):
        replace(student, sources=(0, 4)).check_trunk(weights)
    for name in ("norm.weight", "layers.1.self_attn.q_proj.weight"):
        cut = {**student.tensors, name: student.tensors[name][:32]}
        with pytest.raises(BadModelFile, match=f"{name} has the shape"):
            replace(student, tensors=cut).check_trunk(weights)


def test_a_folder_that_cannot_be_written(tmp_path: Path, path: Path, weights: Weights) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        write_rung(_rung(weights), path / "below-a-file.safetensors")
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        write_rung(_rung(weights), tmp_path / "taken.safetensors")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["good.safetensors", "taken.safetensors"]


@pytest.mark.parametrize(
    ("layers", "text"),
    [([], ""), ([4], "4"), ([0, 1, 2], "0-2"), ([0, 1, 2, 3, 28, 29], "0-3, 28-29"), ([1, 3, 5], "1, 3, 5")],
)
def test_layers_for_people(layers: list[int], text: str) -> None:
    assert layers_text(layers) == text
