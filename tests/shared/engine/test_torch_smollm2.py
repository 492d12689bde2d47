"""The real model as a Hugging Face folder: torch computes what llama.cpp computes, and is exact on it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from updraft.engine import Run
from updraft.engine.base import FloatRows
from updraft.engine.exactness import check_exactness
from updraft.engine.llama import LlamaEngine
from updraft.models.gguf_info import read_vocabulary
from updraft.models.staged.hf_folder import write_model
from updraft.models.staged.tokenizer_file import write_gguf_tokenizer
from updraft.models.weights import read_weights

pytest.importorskip("torch")

from safetensors.numpy import load_file, save_file

from updraft.engine.torch import TorchEngine  # torch's absence skips before

pytestmark = [pytest.mark.smollm2, pytest.mark.slow]

TEXT = (
    "The lighthouse keeper climbed the stairs every evening at dusk. He lit the lamp, wound the clockwork, and wrote "
    "down the weather in a book that his father had begun. The capital of France is Paris, and water boils at 100 "
)


@pytest.fixture(scope="module")
def folder(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("hf") / "smollm2"
    vocabulary = read_vocabulary(smollm2_path)
    write_model(read_weights(smollm2_path), target, bos=vocabulary.start_token, end_tokens=vocabulary.end_tokens)
    write_gguf_tokenizer(smollm2_path, target / "tokenizer.gguf")
    return target


@pytest.fixture(scope="module")
def first_layers(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight of thirty: kernels depend on a layer's sizes, and all layers have the same."""
    target = Path(shutil.copytree(folder, tmp_path_factory.mktemp("cut") / "smollm2"))
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 8}))
    later = re.compile(r"model\.layers\.([89]|\d\d)\.")
    tensors = {
        name: values for name, values in load_file(folder / "model.safetensors").items() if not later.match(name)
    }
    save_file(tensors, target / "model.safetensors")
    return target


def _rows(engine: LlamaEngine | TorchEngine, tokens: list[int]) -> FloatRows:
    sequence = engine.open()
    (output,) = engine.forward([Run(sequence, 0, tokens, rows=len(tokens))])
    rows = output.logits.copy()
    engine.shutdown()
    return rows


def test_it_agrees_with_llama_cpp(folder: Path, smollm2_path: Path) -> None:
    llama = LlamaEngine(smollm2_path, context=256, sequences=1, threads=1)
    torch = TorchEngine(folder, context=256, sequences=1, threads=1)
    assert torch.info.tokenizer_hash == llama.info.tokenizer_hash
    tokens = torch.tokenizer.encode(TEXT)
    assert tokens == llama.tokenizer.encode(TEXT)
    found, expected = _rows(torch, tokens), _rows(llama, tokens)
    # llama.cpp multiplies 4-bit weights with activations of 8 bits; torch computes in float32.
    assert np.mean(found.argmax(1) == expected.argmax(1)) > 0.9
    assert np.abs(found - expected).mean() < 0.2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_is_exact(first_layers: Path, dtype: str) -> None:
    engine = TorchEngine(first_layers, context=64, sequences=3, threads=1, dtype=dtype)
    report = check_exactness(engine)
    engine.shutdown()
    assert report.exact, report
