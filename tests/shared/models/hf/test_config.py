from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.hf_model import HF_FAMILIES, hf_config
from updraft.errors import BadModelFile
from updraft.models.hf.config import HfConfig, Rope, parse_config
from updraft.models.hf.families import FAMILIES

PATH = Path("model/config.json")


def parsed(family: str = "llama", **own: Any) -> HfConfig:
    return parse_config(hf_config(family, **own), PATH)


def test_the_families_are_those_of_the_documentation() -> None:
    assert set(HF_FAMILIES) == {
        "llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek",
    }  # fmt: skip


def test_what_is_left_out_has_the_defaults_of_the_published_code() -> None:
    values = hf_config("llama")
    for key in ("num_key_value_heads", "rms_norm_eps", "rope_theta", "tie_word_embeddings", "hidden_act"):
        del values[key]
    config = parse_config(values, PATH)
    assert (config.kv_heads, config.head_size, config.norm_epsilon, config.tied) == (4, 16, 1e-6, False)
    assert config.rope == Rope(10_000.0)
    assert (config.qkv_bias, config.output_bias, config.mlp_bias, config.qk_norm) == (False, False, False, "none")
    assert parse_config({**values, "num_key_value_heads": None, "head_dim": None}, PATH) == config


@pytest.mark.parametrize(
    ("family", "own", "layers"),
    [
        ("mixtral", {}, (0, 1, 2, 3)),
        ("olmoe", {}, (0, 1, 2, 3)),
        ("qwen2_moe", {"decoder_sparse_step": 2}, (1, 3)),
        ("qwen2_moe", {"decoder_sparse_step": 1, "mlp_only_layers": [0, 3]}, (1, 2)),
        ("qwen3_moe", {"mlp_only_layers": []}, (0, 1, 2, 3)),
        ("deepseek", {"first_k_dense_replace": 1}, (1, 2, 3)),
        ("deepseek", {"first_k_dense_replace": 1, "moe_layer_freq": 2}, (2,)),
        ("deepseek", {"first_k_dense_replace": 0, "moe_layer_freq": 3}, (0, 3)),
    ],
)
def test_layers_with_experts(family: str, own: dict[str, Any], layers: tuple[int, ...]) -> None:
    moe = parsed(family, num_hidden_layers=4, **own).moe
    assert moe is not None
    assert moe.layers == layers


@pytest.mark.parametrize(
    ("family", "own"),
    [
        ("deepseek", {"n_routed_experts": None}),
        ("deepseek", {"first_k_dense_replace": 9}),
        ("qwen3_moe", {"mlp_only_layers": [0, 1, 2]}),
        ("qwen3", {}),
    ],
)
def test_models_without_experts(family: str, own: dict[str, Any]) -> None:
    assert parsed(family, **own).moe is None


def test_experts_that_every_token_passes() -> None:
    shared = [moe.shared_hidden for f in ("deepseek", "qwen2_moe", "olmoe") if (moe := parsed(f).moe)]
    assert shared == [64, 64, 0]
    normalised = [moe.normalised for f in ("mixtral", "olmoe", "qwen3_moe") if (moe := parsed(f).moe)]
    assert normalised == [True, False, True]


def test_rope_is_read_in_its_older_and_its_newer_form() -> None:
    llama3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    expected = Rope(5e5, "llama3", 8.0, 1.0, 4.0, 64)
    assert parsed(rope_theta=5e5, rope_scaling={"rope_type": "llama3", **llama3}).rope == expected
    newer = {"rope_type": "llama3", "rope_theta": 5e5, **llama3}
    assert parsed(rope_theta=None, rope_parameters=newer).rope == expected
    assert parsed(rope_scaling={"type": "linear", "factor": 4}).rope == Rope(10_000.0, "linear", 4.0)
    assert parsed(rope_parameters={"rope_type": "default", "rope_theta": 1e6}).rope == Rope(1e6)


@pytest.mark.parametrize(
    ("family", "own", "window"),
    [
        ("mistral", {"sliding_window": 4096}, 4096),
        ("mistral", {"sliding_window": None}, None),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": False}, None),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": True}, 8),
        ("llama", {"sliding_window": 8}, None),
    ],
)
def test_windows(family: str, own: dict[str, Any], window: int | None) -> None:
    assert parsed(family, **own).window == window


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"model_type": "gpt2"}, "'gpt2' is not supported; supported are llama, mistral"),
        ({"model_type": None}, "None is not supported"),
        ({"model_type": ["llama"]}, "not supported"),
        ({"model_type": "deepseek_v2"}, "multi-head latent attention"),
        ({"model_type": "deepseek", "kv_lora_rank": 512}, "multi-head latent attention"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForCausalLM"),
        ({"hidden_act": "gelu"}, "'gelu', not silu"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn'; supported are default, linear and llama3"),
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "'dynamic'"),
        ({"rope_scaling": "linear"}, "rope_scaling is not an object"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor is 0"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"hidden_size": "64"}, "hidden_size is '64'"),
        ({"hidden_size": 64.5}, "hidden_size is 64.5"),
        ({"vocab_size": None}, "vocab_size is None"),
        ({"num_hidden_layers": 5000}, "num_hidden_layers is 5000"),
        ({"num_key_value_heads": 3}, "4 heads of 16 do not go with 3"),
        ({"head_dim": 15}, "heads of 15"),
        ({"rms_norm_eps": -1}, "rms_norm_eps is -1"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
    ],
)
def test_what_is_not_supported_is_named(own: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadModelFile, match=reason) as caught:
        parsed(**own)
    assert str(PATH) in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("family", "own", "reason"),
    [
        ("mixtral", {"num_local_experts": None}, "num_local_experts is None"),
        ("mixtral", {"num_experts_per_tok": 5}, "num_experts_per_tok is 5, not a whole number from 1 to 4"),
        ("deepseek", {"scoring_func": "sigmoid"}, "'sigmoid', not softmax"),
        ("qwen2_moe", {"mlp_only_layers": ["1"]}, "mlp_only_layers"),
        ("qwen2_moe", {"shared_expert_intermediate_size": None}, "shared_expert_intermediate_size"),
        ("qwen3_moe", {"norm_topk_prob": 1}, "norm_topk_prob is 1"),
        ("mistral", {"attention_bias": True}, "attention_bias"),
    ],
)
def test_faults_of_single_families_are_named(family: str, own: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadModelFile, match=reason):
        parsed(family, **own)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_value_in_any_place_is_read_or_refused(data: st.DataObject) -> None:
    values = hf_config(data.draw(st.sampled_from(sorted(FAMILIES))))
    for key in data.draw(st.lists(st.sampled_from([*sorted(values), "rope_scaling", "rope_parameters"]), max_size=3)):
        values[key] = data.draw(JSON)
    try:
        config = parse_config(values, PATH)
    except BadModelFile:
        return
    assert config.heads % config.kv_heads == 0
