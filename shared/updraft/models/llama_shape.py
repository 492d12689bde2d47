"""The llama architecture as files describe it: its sizes, its tensors' names and shapes, its order of head rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BadModelFile
from updraft.models.gguf_header import GgufHeader

__all__ = [
    "BLOCK_SUFFIXES",
    "FAMILY",
    "LlamaShape",
    "config_fault",
    "gguf_name",
    "permute_heads",
    "shape_of_config",
    "shape_of_gguf",
    "unpermute_heads",
]

FloatArray = NDArray[np.float32]

FAMILY = "llama"
# A block's tensors: Hugging Face's names and llama.cpp's.
BLOCK_SUFFIXES = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
_OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_MAX_LAYERS = 4096
_MAX_SIZE = 1 << 24


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """Sizes of a llama-architecture model; counts, but for the last two."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    vocabulary: int
    context: int
    rope_theta: float
    norm_epsilon: float

    @property
    def block(self) -> dict[str, tuple[int, ...]]:
        """The shapes of a block's tensors, by suffix (keys of `BLOCK_SUFFIXES`)."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return {
            "input_layernorm.weight": (self.width,),
            "self_attn.q_proj.weight": (queries, self.width),
            "self_attn.k_proj.weight": (keys, self.width),
            "self_attn.v_proj.weight": (keys, self.width),
            "self_attn.o_proj.weight": (self.width, queries),
            "post_attention_layernorm.weight": (self.width,),
            "mlp.gate_proj.weight": (self.feed_forward, self.width),
            "mlp.up_proj.weight": (self.feed_forward, self.width),
            "mlp.down_proj.weight": (self.width, self.feed_forward),
        }

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all tensors by Hugging Face's names; `lm_head.weight` is not there in every model."""
        table = (self.vocabulary, self.width)
        outer = {"model.embed_tokens.weight": table, "model.norm.weight": (self.width,), "lm_head.weight": table}
        layers = range(self.layers)
        return outer | {f"model.layers.{n}.{suffix}": size for n in layers for suffix, size in self.block.items()}

    def fault(self) -> str | None:
        """What is wrong with the sizes themselves, if anything."""
        counts = (self.width, self.heads, self.kv_heads, self.head_size, self.feed_forward, self.vocabulary)
        if not 1 <= self.layers <= _MAX_LAYERS or not all(1 <= count <= _MAX_SIZE for count in counts):
            return f"sizes are out of range: {self}"
        if self.heads % self.kv_heads or self.head_size % 2:
            return f"{self.heads} heads of {self.head_size} do not go with {self.kv_heads} of keys"
        if self.context < 1 or not self.rope_theta > 0 or not self.norm_epsilon > 0:
            return f"context, rope_theta and norm_epsilon must be above 0: {self}"
        return None


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor."""
    if name in _OUTER:
        return _OUTER[name]
    _, _, layer, suffix = name.split(".", 3)
    return f"blk.{layer}.{BLOCK_SUFFIXES[suffix]}"


def permute_heads(matrix: FloatArray, heads: int) -> FloatArray:
    """Reorder the rows of a query or key matrix from Hugging Face's rotary halves to llama.cpp's rotary pairs."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def unpermute_heads(matrix: FloatArray, heads: int) -> FloatArray:
    """The inverse of `permute_heads`."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def shape_of_gguf(header: GgufHeader, vocabulary: int) -> LlamaShape:
    """Sizes in a GGUF's header. Raises BadModelFile if one is missing or absurd, or the file has more than weights."""

    def number(key: str, default: float | None = None) -> float:
        value = header.values.get(f"{FAMILY}.{key}", default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise BadModelFile(f"{header.path}: {FAMILY}.{key} is {value!r}, not a number above 0")
        return value

    width, heads = int(number("embedding_length")), int(number("attention.head_count"))
    shape = LlamaShape(
        layers=int(number("block_count")),
        width=width,
        heads=heads,
        kv_heads=int(number("attention.head_count_kv", heads)),
        head_size=int(number("attention.key_length", width // heads)),
        feed_forward=int(number("feed_forward_length")),
        vocabulary=vocabulary,
        context=int(number("context_length")),
        rope_theta=float(number("rope.freq_base", 10_000.0)),
        norm_epsilon=float(number("attention.layer_norm_rms_epsilon")),
    )
    if fault := shape.fault() or _gguf_fault(header, shape):
        raise BadModelFile(f"{header.path}: {fault}")
    return shape


def shape_of_config(config: Mapping[str, Any]) -> LlamaShape:
    """Sizes in a Hugging Face `config.json`. Raises BadModelFile if one is missing or absurd."""
    try:
        width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        rope = config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta") or 10_000.0
        shape = LlamaShape(
            layers=int(config["num_hidden_layers"]),
            width=width,
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or width // heads),
            feed_forward=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            context=int(config["max_position_embeddings"]),
            rope_theta=float(rope),
            norm_epsilon=float(config["rms_norm_eps"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise BadModelFile(f"config.json lacks a usable value: {error}") from error
    if fault := shape.fault():
        raise BadModelFile(f"config.json: {fault}")
    return shape


def config_fault(config: Mapping[str, Any]) -> str | None:
    """Why a `config.json` is not of the plain llama architecture, if it is not: then weights alone do not tell it."""
    if config.get("model_type") != FAMILY:
        return f"the model type is {config.get('model_type')!r}; only {FAMILY!r} can be read here"
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default")) if isinstance(scaling, dict) else scaling
    if kind not in ("default", None):
        return f"its rotary positions are scaled ({kind!r}), which is not supported here"
    if config.get("attention_bias") or config.get("mlp_bias"):
        return "it has biases, which are not supported here"
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        return f"its activation is {config['hidden_act']!r}, not silu"
    return None


def _gguf_fault(header: GgufHeader, shape: LlamaShape) -> str | None:
    """As `config_fault`, of a GGUF."""
    scaling = header.values.get(f"{FAMILY}.rope.scaling.type", "none")
    names = {place.name for place in header.tensors}
    if scaling != "none" or "rope_freqs.weight" in names:
        return "its rotary positions are scaled, which is not supported here"
    if header.values.get(f"{FAMILY}.rope.dimension_count", shape.head_size) != shape.head_size:
        return "only a part of each head is rotated, which is not supported here"
    biased = next((name for name in sorted(names) if name.endswith(".bias")), None)
    return f"it has biases ({biased}), which are not supported here" if biased else None
