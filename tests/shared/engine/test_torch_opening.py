"""How the torch engine is chosen and opened, and what it refuses before it loads a tensor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hf_model import write_hf_model
from updraft.engine import open_engine
from updraft.errors import BadModelFile, ConfigError, EngineFailure, MissingExtra, ModelNotFound

torch = pytest.importorskip("torch")

from updraft.engine.torch import TorchEngine  # noqa: E402  # torch's absence skips before

SIZES: dict[str, Any] = {"context": 64, "sequences": 2, "threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hf_model(tmp_path_factory.mktemp("hf") / "mini", "qwen2_moe", kind="BF16")


@pytest.mark.parametrize("backend", [None, "torch"])
def test_a_hugging_face_folder_is_opened_by_torch(folder: Path, backend: str | None) -> None:
    engine = open_engine(str(folder), backend=backend, **SIZES)
    assert isinstance(engine, TorchEngine)
    assert engine.info.name == "mini"
    engine.shutdown()
    engine = open_engine(folder, backend=backend, name="other", device="cpu", expert_bits=8, **SIZES)
    assert engine.info.name == "other"
    engine.shutdown()


def test_the_type_is_the_files_own_unless_given(folder: Path) -> None:
    for dtype, kind in ((None, "BF16"), ("bfloat16", "BF16"), ("float32", "F32"), ("float16", "F16")):
        engine = TorchEngine(folder, dtype=dtype, **SIZES)
        assert engine.info.quantisation == kind
        engine.shutdown()


def test_a_staged_folder_stays_with_onnx_runtime(staged_model_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device is set, but tiny is not computed by torch"):
        open_engine(staged_model_path, device="cpu", **SIZES)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelNotFound, match="manifest"):
        open_engine(empty, **SIZES)


def test_options_of_other_backends_are_refused(folder: Path, tiny_model_path: Path) -> None:
    with pytest.raises(ConfigError, match="carry, split is set, but tiny.gguf is not a staged model"):
        open_engine(tiny_model_path, split=1, carry="int8", **SIZES)
    with pytest.raises(ConfigError, match="dtype is set, but tiny.gguf is not computed by torch"):
        open_engine(tiny_model_path, dtype="float32", **SIZES)
    with pytest.raises(BadModelFile, match=r"tiny.gguf is a file, and torch computes Hugging Face folders"):
        open_engine(tiny_model_path, backend="torch", **SIZES)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"device": "gpu"}, "device is 'gpu'"),
        ({"device": "meta"}, "device is 'meta'"),
        ({"device": "mps"}, "device is 'mps'"),
        ({"device": "cuda:77"}, "finds . CUDA devices"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"expert_bits": 3}, "expert_bits is 3"),
        ({"gpu_layers": 1}, "one device"),
        ({"context": 0}, "context is 0"),
        ({"context": 5000}, "context is 5000"),
        ({"sequences": 0}, "sequences is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"batch_tokens": 0}, "batch_tokens is 0"),
    ],
)
def test_options_out_of_range_are_refused(folder: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        TorchEngine(folder, **{**SIZES, **options})


def test_experts_that_are_not_there_cannot_be_quantised(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no experts"):
        TorchEngine(write_hf_model(tmp_path / "dense", "llama"), expert_bits=8, **SIZES)


def test_a_window_is_refused_only_where_it_binds(tmp_path: Path) -> None:
    folder = write_hf_model(tmp_path / "model", "mistral", sliding_window=64)
    TorchEngine(folder, **SIZES).shutdown()
    with pytest.raises(ConfigError, match="last 64 positions") as caught:
        TorchEngine(folder, **{**SIZES, "context": 65})
    assert "64 or less" in str(caught.value.remedy)


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="tokens; its model has 280"):
        TorchEngine(write_hf_model(tmp_path / "model", "llama", vocab_size=280), **SIZES)


def test_no_room_is_said_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("not enough memory: you tried to allocate much")

    monkeypatch.setattr("updraft.engine.torch_cache.torch.empty", full)
    with pytest.raises(EngineFailure, match="no room for 2 sequences of 64 tokens"):
        TorchEngine(folder, **SIZES)


def test_without_torch_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "updraft.engine.torch")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra) as caught:
        open_engine(folder, **SIZES)
    assert "updraft-llm[torch]" in str(caught.value.remedy)
