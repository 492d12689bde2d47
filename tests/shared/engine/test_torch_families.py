"""The torch engine computes what the published code of every family computes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.hf_model import HF_FAMILIES, hf_config, hf_weights, write_hf_model
from tests.shared.engine.hf_reference import NaiveModel
from updraft.engine import Output, Run

TorchEngine = pytest.importorskip("updraft.engine.torch").TorchEngine

TOKENS = np.random.default_rng(1).integers(0, 291, 24).tolist()
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((family, {}) for family in HF_FAMILIES),
    ("llama", {"rope_scaling": LLAMA3, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}),
    ("qwen3", {"attention_bias": True, "rope_theta": 1e6, "tie_word_embeddings": True}),
    ("deepseek", {"first_k_dense_replace": 0, "moe_layer_freq": 2, "n_shared_experts": None, "norm_topk_prob": True}),
    ("qwen2_moe", {"mlp_only_layers": [1], "decoder_sparse_step": 1, "norm_topk_prob": True}),
]


def _computed(folder: Path, **options: Any) -> Output:
    engine = TorchEngine(folder, context=64, sequences=1, threads=1, **options)
    (output,) = engine.forward([Run(engine.open(), 0, TOKENS, rows=len(TOKENS), hidden=True)])
    engine.shutdown()
    assert isinstance(output, Output)
    return output


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("family", "own"), VARIANTS, ids=lambda value: value if isinstance(value, str) else "")
def test_it_agrees_with_the_naive_model(family: str, own: dict[str, Any], exact: bool, tmp_path: Path) -> None:
    config = hf_config(family, **own)
    logits, hidden = NaiveModel(config, hf_weights(config)).run(TOKENS)
    output = _computed(write_hf_model(tmp_path / "model", family, shards=2, **own), exact=exact)
    assert output.hidden is not None
    assert np.abs(output.logits - logits).max() < 1e-4
    assert np.abs(output.hidden - hidden).max() < 1e-5


@pytest.mark.parametrize("kind", ["BF16", "F16"])
def test_short_types_are_near(kind: str, tmp_path: Path) -> None:
    """Of a dense model: a router that is nearly undecided may choose otherwise."""
    folder = write_hf_model(tmp_path / "model", "qwen2", kind=kind)
    short, long = _computed(folder), _computed(folder, dtype="float32")
    assert 0 < np.abs(short.logits - long.logits).max() < (0.5 if kind == "BF16" else 0.1)


@pytest.mark.parametrize("family", [name for name in HF_FAMILIES if name != "deepseek"])
def test_it_agrees_with_transformers(family: str, tmp_path: Path) -> None:
    """All families but DeepSeek's, whose first model transformers has not."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = write_hf_model(tmp_path / "model", family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of another library's own code
        model, loading = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
        with torch.no_grad():
            found = model(torch.tensor([TOKENS]), output_hidden_states=True)
    assert not any(loading.values()), loading
    output = _computed(folder)
    assert output.hidden is not None
    assert np.abs(output.logits - found.logits[0].numpy()).max() < 1e-4
    assert np.abs(output.hidden - found.hidden_states[-1][0].numpy()).max() < 1e-5
