"""Tiny Hugging Face folders with random weights, of every family that the torch engine knows, made in a moment."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fakes.tiny_model import CONTROL_TOKENS, MERGES, tiny_tokens, write_tiny_model
from updraft.chat_template import CHATML
from updraft.models.hf.config import parse_config
from updraft.models.hf.families import FAMILIES
from updraft.models.hf.shapes import tensor_shapes
from updraft.models.staged.tokenizer_file import write_gguf_tokenizer

__all__ = ["HF_FAMILIES", "hf_config", "hf_weights", "write_hf_model", "write_safetensors"]

FloatArray = NDArray[np.float32]

HF_FAMILIES = tuple(FAMILIES)
_OWN: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},
    "mistral": {"sliding_window": 4096, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "qwen2": {"use_sliding_window": False, "sliding_window": 8},
    "qwen3": {"head_dim": 32, "num_key_value_heads": 1},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 96, "sliding_window": None},
    "qwen2_moe": {
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 64,
        "decoder_sparse_step": 2,
        "norm_topk_prob": False,
    },
    "qwen3_moe": {
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "norm_topk_prob": True,
        "mlp_only_layers": [1],
        "head_dim": 32,
    },
    "olmoe": {"num_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 32, "clip_qkv": 1.5},
    "deepseek": {
        "n_routed_experts": 6,
        "n_shared_experts": 2,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "norm_topk_prob": False,
        "scoring_func": "softmax",
    },
}


def hf_config(family: str, **own: Any) -> dict[str, Any]:
    """The `config.json` of a tiny model: 3 layers, hidden width 64, the tokenizer of `write_tiny_model`."""
    common: dict[str, Any] = {
        "architectures": [FAMILIES[family].architecture],
        "model_type": family,
        "hidden_act": "silu",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": False,
        "vocab_size": 320,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return common | _OWN[family] | own


def hf_weights(config: Mapping[str, Any], *, seed: int = 0, noise: float = 0.0) -> dict[str, FloatArray]:
    """Random tensors of a configuration by name; `noise` is as in `write_tiny_model`."""
    random, other = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    weights = {}
    for name, shape in tensor_shapes(parse_config(config, Path("config.json"))).items():
        exact = random.standard_normal(shape)
        exact = exact * (1 + noise * other.standard_normal(shape))
        weights[name] = (_gain(name, shape) * exact + ("norm" in name)).astype(np.float32)
    if "lm_head.weight" in weights:
        # Answers do not end by themselves: these tokens' logit is always 0, and others reach 4 and more.
        weights["lm_head.weight"][: len(CONTROL_TOKENS)] = 0
        weights["lm_head.weight"][len(tiny_tokens()) :] = 0
    return weights


def write_hf_model(
    folder: Path,
    family: str = "llama",
    *,
    seed: int = 0,
    noise: float = 0.0,
    kind: str = "F32",
    shards: int = 1,
    tokenizer: str = "json",
    weights: Mapping[str, FloatArray] | None = None,
    **own: Any,
) -> Path:
    """Write a folder that the torch engine and transformers load.

    Args:
        folder: to make.
        family: a name of `HF_FAMILIES`.
        seed: of the weights.
        noise: relative standard deviation of noise on them: another model of the same family.
        kind: type of all tensors, F32, BF16 or F16.
        shards: safetensors files; more than one make an index, too.
        tokenizer: "json", or "gguf" for the vocabulary of `write_tiny_model`, so that an edge with that model knows it.
        weights: in place of random ones.
        own: values of `config.json`.
    """
    folder.mkdir(parents=True)
    config = hf_config(family, **own)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML}), encoding="utf-8")
    if tokenizer == "gguf":
        model = write_tiny_model(folder / "scratch.gguf", vocabulary=config["vocab_size"])
        write_gguf_tokenizer(model, folder / "tokenizer.gguf")
        model.unlink()
    else:
        (folder / "tokenizer.json").write_text(json.dumps(_tokenizer()), encoding="utf-8")
    tensors = dict(hf_weights(config, seed=seed, noise=noise) if weights is None else weights)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, kind)
        return folder
    names, index = sorted(tensors), {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[number::shards]}
        write_safetensors(folder / file, part, kind)
        index.update(dict.fromkeys(part, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def write_safetensors(path: Path, tensors: Mapping[str, FloatArray], kind: str = "F32") -> None:
    """Write a file of tensors, all of one type; bfloat16 cuts the numbers off."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, end = [], 0
    for name, values in tensors.items():
        parts.append(_packed(values, kind))
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [end, end + len(parts[-1])]}
        end += len(parts[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def _packed(values: FloatArray, kind: str) -> bytes:
    if kind == "BF16":
        return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return np.ascontiguousarray(values, {"F32": np.float32, "F16": np.float16}[kind]).tobytes()


def _gain(name: str, shape: tuple[int, ...]) -> float:
    if len(shape) == 1:
        return 0.1  # biases, and norms around 1
    if name.startswith("model.embed_tokens"):
        return 1.0
    gain = 4.0 if name.startswith("lm_head") else 1.0
    return gain / float(np.sqrt(shape[1]))


def _tokenizer() -> dict[str, Any]:
    """A byte-level BPE tokenizer.json with the tokens of `write_tiny_model`."""
    added = [
        {
            "id": token,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token, text in enumerate(CONTROL_TOKENS)
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {text: token for token, text in enumerate(tiny_tokens())},
            "merges": list(MERGES),
        },
    }
