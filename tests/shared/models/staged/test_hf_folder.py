from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.fakes.tiny_model import write_tiny_model
from updraft.models.staged.hf_folder import block_config, llama_config, write_block, write_model
from updraft.models.weights import Weights, read_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return read_weights(write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf"))


def test_a_folder_holds_the_same_model(weights: Weights, tmp_path: Path) -> None:
    write_model(weights, tmp_path / "model", bos=1, end_tokens={2, 0})
    again = read_weights(tmp_path / "model")
    assert again.shape == weights.shape
    assert list(again) == list(weights)
    assert all(np.array_equal(again[name], weights[name]) for name in weights)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["eos_token_id"] == [0, 2]


def test_tied_models_say_so(weights: Weights) -> None:
    assert llama_config(weights.shape, tied=True, bos=None, end_tokens=[])["tie_word_embeddings"] is True
    assert llama_config(weights.shape, tied=False, bos=None, end_tokens=[7])["eos_token_id"] == 7


def test_a_block_is_a_model_of_one_layer(weights: Weights, tmp_path: Path) -> None:
    config = llama_config(weights.shape, tied=False, bos=1, end_tokens=[2])
    write_block(
        {**config, "layer_types": ["full_attention"] * 2},
        weights.block(1),
        weights["model.norm.weight"],
        tmp_path / "b",
    )
    tensors = load_file(tmp_path / "b" / "model.safetensors")
    assert np.array_equal(tensors["model.layers.0.mlp.up_proj.weight"], weights["model.layers.1.mlp.up_proj.weight"])
    assert tensors["model.embed_tokens.weight"].shape == (1, weights.shape.width)
    written = json.loads((tmp_path / "b" / "config.json").read_text())
    assert written == block_config(config)
    assert (written["num_hidden_layers"], written["rope_theta"]) == (1, weights.shape.rope_theta)
