"""Files of tensors: read as written, and refused in words that say what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.errors import BadModelFile, ConfigError, ModelNotFound
from updraft.tensor_file import TensorFile

OATS = TensorFile("oat counter", "oats-1", 4096, "Count again.")
ARRAYS: dict[str, Any] = {"a": np.arange(6, dtype=np.int64).reshape(2, 3).T, "b": np.ones(2, np.float16)}


def test_it_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    OATS.write(path, ARRAYS, {"note": "x"})
    facts, arrays = OATS.read(path)
    assert facts == {"format": "oats-1", "note": "x"}
    assert arrays.keys() == ARRAYS.keys()
    assert all(
        np.array_equal(arrays[name], values) and arrays[name].dtype == values.dtype for name, values in ARRAYS.items()
    )


def test_what_is_not_there_or_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="there is no oat counter") as absent:
        OATS.read(tmp_path / "none")
    assert absent.value.remedy == "Count again."
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        OATS.write(tmp_path / "file" / "below", ARRAYS, {})


def test_other_formats_and_large_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    TensorFile("rye counter", "rye-1", 4096).write(path, ARRAYS, {})
    with pytest.raises(BadModelFile, match="is not an oat counter: its format is 'rye-1', not 'oats-1'"):
        OATS.read(path)
    OATS.write(path, {"a": np.zeros(4096, np.uint8)}, {})
    with pytest.raises(BadModelFile, match="larger than 4096 bytes"):
        OATS.read(path)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 60))
def test_damage_is_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int, dropped: int) -> None:
    path = tmp_path_factory.mktemp("damaged") / "file"
    OATS.write(path, ARRAYS, {})
    data = path.read_bytes()
    path.write_bytes(data[:at] + noise + data[at + dropped :])
    try:
        facts, arrays = OATS.read(path)
    except BadModelFile as error:
        assert str(path) in error.message
    else:
        assert facts["format"] == "oats-1" and all(isinstance(values, np.ndarray) for values in arrays.values())


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("it is odd"), "it is odd"),
        (KeyError("shape"), "it does not say 'shape'"),
        (BadModelFile("an oat counter has no oats"), "has no oats"),
        (RecursionError("too deep"), "too deep"),
    ],
)
def test_what_goes_wrong_with_its_content_is_the_files_fault(error: Exception, text: str) -> None:
    with pytest.raises(BadModelFile, match=text) as refused, OATS.refusing(Path("somewhere")):
        raise error
    assert refused.value.message.startswith("somewhere is not an oat counter: ")
    assert refused.value.remedy == "Count again."
