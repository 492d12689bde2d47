"""Routing traces: what is written is what is read, and what is damaged is refused in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.routing import Routing, make_trace
from updraft.errors import BadModelFile, ConfigError, ModelNotFound, UpdraftError
from updraft_cloud.experts.trace import RouteTrace, read_trace, write_trace

pytest.importorskip("safetensors")

SMALL = make_trace(24, Routing(layers=2, experts=6, active=2, vocabulary=20))
ARRAYS = ("tokens", "sequences", "positions", "kinds", "accepted", "passes", "routes", "weights", "ahead")

routings = st.builds(
    Routing,
    layers=st.integers(1, 4),
    experts=st.sampled_from([4, 9, 257, 300]),
    active=st.integers(1, 4),
    vocabulary=st.integers(1, 30),
    sessions=st.integers(2, 5),
    draft=st.integers(1, 5),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(routing=routings, rows=st.integers(1, 40), seed=st.integers(0, 9), ahead=st.booleans())
def test_what_is_written_is_read(tmp_path: Path, routing: Routing, rows: int, seed: int, ahead: bool) -> None:
    trace = make_trace(rows, routing, seed=seed)
    trace = trace if ahead else replace(trace, ahead=None)
    path = tmp_path / "trace.safetensors"
    write_trace(path, trace)
    again = read_trace(path)
    assert (again.shape, again.model, again.note) == (trace.shape, trace.model, trace.note)
    for name in ARRAYS:
        own, other = getattr(trace, name), getattr(again, name)
        assert (own is None and other is None) or (own.dtype == other.dtype and np.array_equal(own, other))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_an_error_of_the_tree_or_a_lawful_trace(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "trace.safetensors"
    write_trace(path, SMALL)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1), label="length")]
    else:
        for _ in range(data.draw(st.integers(1, 4), label="changes")):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        assert len(read_trace(path)) == len(SMALL)
    except UpdraftError as error:
        assert isinstance(error, BadModelFile) and str(path) in error.message


def _with(name: str, value: Any) -> RouteTrace:
    return replace(SMALL, **{name: value})


def _changed(name: str, change: Any) -> RouteTrace:
    array = getattr(SMALL, name).copy()
    change(array)
    return _with(name, array)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("tokens", lambda a: a.__setitem__(0, -1), "tokens below 0"),
        ("positions", lambda a: a.__setitem__(3, -2), "positions below 0"),
        ("kinds", lambda a: a.__setitem__(0, 3), "kinds above 2"),
        ("accepted", lambda a: a.__setitem__(0, 9), "accepted above 2"),
        ("routes", lambda a: a.__setitem__((0, 0), 6), "routes outside 0 to 5"),
        ("routes", lambda a: a.__setitem__((0, 0), 1), "choose an expert twice"),
        ("ahead", lambda a: a.__setitem__((2, 1), 3), "ahead that choose an expert twice"),
        ("weights", lambda a: a.__setitem__((0, 0, 0), np.nan), "not finite"),
        ("passes", lambda a: a.__setitem__(0, 1), "do not rise"),
        ("passes", lambda a: a.__setitem__(1, a[2]), "do not rise"),
    ],
)
def test_values_out_of_range_are_named(name: str, change: Any, reason: str) -> None:
    with pytest.raises(BadModelFile, match=reason):
        _changed(name, change)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("tokens", SMALL.tokens.astype(np.int64), "int32"),
        ("tokens", SMALL.tokens[:0], "no rows"),
        ("routes", SMALL.routes[:, :1], "routes of uint8"),
        ("routes", SMALL.routes.astype(np.int16), "uint8"),
        ("weights", SMALL.weights.astype(np.float32), "float16"),
        ("passes", SMALL.passes[:1], "at least two"),
        ("shape", replace(SMALL.shape, active=7), "chooses 7 of 6"),
        ("shape", replace(SMALL.shape, layers=0), "has 0 layers"),
    ],
)
def test_arrays_that_do_not_fit_are_named(name: str, value: Any, reason: str) -> None:
    with pytest.raises(BadModelFile, match=reason):
        _with(name, value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    with pytest.raises(ModelNotFound):
        read_trace(tmp_path / "none")
    other = tmp_path / "other.safetensors"
    save_file({"a": np.zeros(1)}, other)
    with pytest.raises(BadModelFile, match="format"):
        read_trace(other)
    save_file({"a": np.zeros(1)}, other, {"format": "updraft-routes-1"})
    with pytest.raises(BadModelFile, match="are missing, a are unknown"):
        read_trace(other)
    for shape in ("", "{}", "[1]", '{"layers": 1.5}', "[" * 10_000):
        arrays = {name: getattr(SMALL, name) for name in ARRAYS}
        save_file(arrays, other, {"format": "updraft-routes-1", "shape": shape})
        with pytest.raises(BadModelFile):
            read_trace(other)
    folder = tmp_path / "file"
    folder.touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        write_trace(folder / "trace", SMALL)


def test_a_part_is_cut_at_passes() -> None:
    part = SMALL.part(1, 2)
    assert part.pass_count == 1
    assert np.array_equal(part.tokens, SMALL.tokens[SMALL.passes[1] : SMALL.passes[2]])
    assert SMALL.row_passes.tolist() == sorted(SMALL.row_passes.tolist())
