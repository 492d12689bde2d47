"""Hugging Face folders made from arrays, for onnxruntime-genai's builder: a GGUF's model, or the block of an exit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.models.weights import BLOCK_SUFFIXES, LlamaShape, Weights

__all__ = ["block_config", "llama_config", "write_block", "write_model"]

FloatArray = NDArray[np.float32]

_CONFIG, _TENSORS = "config.json", "model.safetensors"
_PER_LAYER = ("layer_types", "no_rope_layers", "sliding_window_pattern")


def llama_config(shape: LlamaShape, *, tied: bool, bos: int | None, end_tokens: Iterable[int]) -> dict[str, Any]:
    """`config.json` of a llama-architecture model; `tied` when the embedding is the output matrix, too."""
    ends = sorted(end_tokens) or [0]  # the builder insists on one; nothing here reads it
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": bos,
        "dtype": "float32",
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
        "head_dim": shape.head_size,
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "max_position_embeddings": shape.context,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": tied,
        "vocab_size": shape.vocabulary,
    }


def block_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The trunk's configuration for a model of one layer and one token, as an exit's block is."""
    cut = {key: value for key, value in config.items() if key not in _PER_LAYER}
    tokens = {"vocab_size": 1, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    return {**cut, **tokens, "num_hidden_layers": 1, "tie_word_embeddings": True}


def write_model(weights: Weights, folder: Path, *, bos: int | None, end_tokens: Iterable[int]) -> dict[str, Any]:
    """Write a whole model; gives its configuration."""
    config = llama_config(weights.shape, tied="lm_head.weight" not in weights, bos=bos, end_tokens=end_tokens)
    _write(folder, config, {name: weights[name] for name in weights})
    return config


def write_block(config: Mapping[str, Any], block: Mapping[str, FloatArray], norm: FloatArray, folder: Path) -> None:
    """Write one block (tensors by suffix) and its norm as a model of one layer; its embedding stands for nothing."""
    tensors = {f"model.layers.0.{suffix}": block[suffix] for suffix in BLOCK_SUFFIXES}
    tensors |= {"model.norm.weight": norm, "model.embed_tokens.weight": np.zeros((1, norm.size), np.float32)}
    _write(folder, block_config(config), tensors)


def _write(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, FloatArray]) -> None:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    (folder / _CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, folder / _TENSORS)
