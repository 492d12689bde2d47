from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.tiny_moe import TINY_MOE
from updraft.errors import BadModelFile
from updraft.models.moe.shape import MixtralShape, mixtral_config


def test_tensors_are_named_as_the_family_names_them() -> None:
    blocks = TINY_MOE.blocks
    assert len(blocks) == 2 * (6 + 1 + 4 * 3) + 1
    assert blocks["model.layers.1.block_sparse_moe.gate.weight"] == (4, 32)
    assert blocks["model.layers.0.block_sparse_moe.experts.3.w1.weight"] == (24, 32)
    assert blocks["model.layers.0.block_sparse_moe.experts.3.w2.weight"] == (32, 24)
    assert blocks["model.layers.0.self_attn.k_proj.weight"] == (16, 32)
    assert blocks["model.norm.weight"] == (32,)
    assert not any("mlp" in name for name in blocks)


def test_sizes_come_back_from_json() -> None:
    assert MixtralShape.from_json(TINY_MOE.to_json()) == TINY_MOE


@pytest.mark.parametrize(
    "change",
    [
        {"experts": 1},
        {"experts": 257},
        {"active": 0},
        {"active": 5},
        {"layers": 0},
        {"width": "wide"},
        {"heads": None},
        {"rope_theta": 1e999},
        {"vocabulary": 1 << 40},
    ],
    ids=str,
)
def test_absurd_sizes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadModelFile, match="mixture of experts"):
        MixtralShape.from_json(TINY_MOE.to_json() | change)


def test_a_missing_size_is_refused() -> None:
    values = TINY_MOE.to_json()
    del values["kv_heads"]
    with pytest.raises(BadModelFile, match="kv_heads"):
        MixtralShape.from_json(values)


def test_the_configuration_says_all_that_the_family_needs() -> None:
    config = mixtral_config(TINY_MOE, bos=1, end_tokens={2})
    assert config["model_type"] == "mixtral" and config["architectures"] == ["MixtralForCausalLM"]
    assert (config["num_local_experts"], config["num_experts_per_tok"]) == (4, 2)
    assert (config["hidden_size"], config["intermediate_size"], config["head_dim"]) == (32, 24, 16)
    assert (config["eos_token_id"], config["tie_word_embeddings"]) == (2, False)
    assert mixtral_config(TINY_MOE, bos=1, end_tokens={5, 2})["eos_token_id"] == [2, 5]
