"""Opening a staged folder: options, missing libraries, what is refused, and the end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from updraft.engine import Run, StagedEngine, open_engine
from updraft.engine.onnx import OnnxEngine
from updraft.errors import BadModelFile, ConfigError, EngineFailure, MissingExtra, ModelNotFound


def test_shutdown_twice_and_no_use_afterwards(staged_model_path: Path) -> None:
    engine = OnnxEngine(staged_model_path, context=64, sequences=1, threads=1)
    sequence = engine.open()
    engine.shutdown()
    engine.shutdown()
    for use in (
        lambda: engine.forward([Run(sequence, 0, [1])]),
        lambda: engine.open(),
        lambda: engine.length(sequence),
        lambda: engine.boundary(sequence, 0, 0, 0),
        lambda: engine.embed([1]),
        lambda: engine.tokenizer.encode("a"),
    ):
        with pytest.raises(EngineFailure, match="shut down"):
            use()
    assert engine.info.layers == 4


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"context": 0}, "context"),
        ({"context": 10**9}, "context"),
        ({"context": 1.5}, "context"),
        ({"sequences": 0}, "sequences"),
        ({"sequences": 257}, "sequences"),
        ({"threads": 0}, "threads"),
        ({"batch_tokens": True}, "batch_tokens"),
        ({"gpu_layers": 1}, "CPU"),
        ({"last_stage": 3}, "last_stage"),
        ({"last_stage": -1}, "last_stage"),
        ({"split": 2}, "split"),
        ({"split": -1}, "split"),
        ({"split": 1, "last_stage": 0}, "split"),
        ({"carry": "int8"}, "split"),
        ({"carry": "int4", "split": 0}, "carry"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(staged_model_path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        OnnxEngine(staged_model_path, **{"context": 64, **options})


def test_the_row_of_exact_attention_costs_a_position(staged_model_path: Path) -> None:
    length = open_engine(staged_model_path, context=8, sequences=1, threads=1).info.context_length
    with pytest.raises(ConfigError, match=str(length - 1)):
        OnnxEngine(staged_model_path, context=length, sequences=1)


def test_a_missing_library_is_named(staged_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from updraft.engine import onnx_native

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    onnx_native.library.cache_clear()
    with pytest.raises(MissingExtra, match="onnxruntime") as caught:
        OnnxEngine(staged_model_path, context=64)
    assert "updraft-llm[onnx]" in caught.value.remedy
    onnx_native.library.cache_clear()


def test_what_onnxruntime_refuses_is_a_bad_model_file(tmp_path: Path) -> None:
    from updraft.engine.onnx_native import load_session

    file = tmp_path / "odd.onnx"
    file.write_bytes(b"\x08\x07\x12odd")
    with pytest.raises(BadModelFile, match="odd.onnx"):
        load_session(file, 1)


def test_onnxruntime_says_nothing_on_the_terminal(staged_model_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    engine = OnnxEngine(staged_model_path, context=64, sequences=1, threads=1)
    engine.forward([Run(engine.open(), 0, [1], rows=1)])
    engine.shutdown()
    assert capfd.readouterr() == ("", "")


def test_open_engine_takes_a_staged_folder(staged_model_path: Path, tmp_path: Path) -> None:
    engine = open_engine(str(staged_model_path), context=64, sequences=1, threads=1)
    assert isinstance(engine, StagedEngine)
    assert engine.info.name == staged_model_path.name
    engine.shutdown()
    engine = open_engine(staged_model_path, backend="onnx", context=64, sequences=1, threads=1, batch_tokens=32)
    assert engine.max_run == 32
    engine.shutdown()
    with pytest.raises(ModelNotFound):
        open_engine(tmp_path, context=64)
