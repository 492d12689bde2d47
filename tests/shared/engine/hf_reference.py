"""Hugging Face models in plain numpy, float64, one token after the other: what the torch engine is held against.

It reads `config.json` and the tensors by their names as the models' published code does, and shares no code with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NaiveModel"]

Array = NDArray[np.float64]


class NaiveModel:
    """Keeps keys and values of every layer; `step` gives the next token's logits."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, NDArray[np.float32]]) -> None:
        self._config = config
        self._weights = {name: values.astype(np.float64) for name, values in weights.items()}
        self._keys: list[list[Array]] = [[] for _ in range(config["num_hidden_layers"])]
        self._values: list[list[Array]] = [[] for _ in range(config["num_hidden_layers"])]

    def run(self, tokens: Sequence[int]) -> tuple[Array, Array]:
        """Logits and normalised hidden states at every position."""
        rows = [self.step(token) for token in tokens]
        return np.array([logits for logits, _ in rows]), np.array([hidden for _, hidden in rows])

    def step(self, token: int) -> tuple[Array, Array]:
        x = self._weights["model.embed_tokens.weight"][token]
        for layer in range(self._config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}."
            x = x + self._attention(layer, self._norm(x, f"{prefix}input_layernorm"))
            x = x + self._feed_forward(layer, self._norm(x, f"{prefix}post_attention_layernorm"))
        hidden = self._norm(x, "model.norm")
        tied = self._config["tie_word_embeddings"]
        return self._weights["model.embed_tokens.weight" if tied else "lm_head.weight"] @ hidden, hidden

    def _norm(self, x: Array, name: str) -> Array:
        unit: Array = x / np.sqrt(np.mean(x**2) + self._config["rms_norm_eps"])
        return unit * self._weights[f"{name}.weight"]

    def _linear(self, x: Array, name: str) -> Array:
        result: Array = self._weights[f"{name}.weight"] @ x
        return result + self._weights[f"{name}.bias"] if f"{name}.bias" in self._weights else result

    def _attention(self, layer: int, x: Array) -> Array:
        config, own = self._config, f"model.layers.{layer}.self_attn."
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        size = config.get("head_dim") or config["hidden_size"] // heads
        q, k, v = (self._linear(x, f"{own}{part}_proj") for part in "qkv")
        family = config["model_type"]
        if family == "olmoe":
            q, k = self._norm(q, f"{own}q_norm"), self._norm(k, f"{own}k_norm")
            bound = config["clip_qkv"]
            q, k, v = (np.clip(part, -bound, bound) for part in (q, k, v))
        q, k, v = q.reshape(heads, size), k.reshape(kv_heads, size), v.reshape(kv_heads, size)
        if family.startswith("qwen3"):
            q = np.array([self._norm(head, f"{own}q_norm") for head in q])
            k = np.array([self._norm(head, f"{own}k_norm") for head in k])
        position = len(self._keys[layer])
        self._keys[layer].append(self._rotated(k, position))
        self._values[layer].append(v)
        q = self._rotated(q, position)
        keys, values = np.array(self._keys[layer]), np.array(self._values[layer])
        mixed = []
        for head in range(heads):
            mine = head // (heads // kv_heads)
            shares = _softmax(keys[:, mine] @ q[head] / np.sqrt(size))
            mixed.append(shares @ values[:, mine])
        return self._linear(np.concatenate(mixed), f"{own}o_proj")

    def _rotated(self, heads: Array, position: int) -> Array:
        half = heads.shape[1] // 2
        turns = self._config["rope_theta"] ** (-np.arange(half) / half)
        angles = position * self._scaled(turns)
        first, second = heads[:, :half], heads[:, half:]
        cosine, sine = np.cos(angles), np.sin(angles)
        return np.concatenate((first * cosine - second * sine, second * cosine + first * sine), 1)

    def _scaled(self, turns: Array) -> Array:
        scaling = self._config.get("rope_scaling") or {"rope_type": "default"}
        if scaling["rope_type"] == "linear":
            return np.array(turns / scaling["factor"])
        if scaling["rope_type"] == "default":
            return turns
        low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
        smooth = (scaling["original_max_position_embeddings"] * turns / (2 * np.pi) - low) / (high - low)
        smooth = np.clip(smooth, 0, 1)
        return np.array((1 - smooth) * turns / factor + smooth * turns)

    def _feed_forward(self, layer: int, x: Array) -> Array:
        prefix = f"model.layers.{layer}."
        if f"{prefix}mlp.gate_proj.weight" in self._weights:
            return self._gated(x, f"{prefix}mlp", ("gate_proj", "up_proj", "down_proj"))
        return self._experts(x, prefix)

    def _experts(self, x: Array, prefix: str) -> Array:
        config, family = self._config, self._config["model_type"]
        module = f"{prefix}block_sparse_moe" if family == "mixtral" else f"{prefix}mlp"
        parts = ("w1", "w3", "w2") if family == "mixtral" else ("gate_proj", "up_proj", "down_proj")
        shares = _softmax(self._linear(x, f"{module}.gate"))
        chosen = np.argsort(-shares)[: config["num_experts_per_tok"]]
        scale = shares[chosen].sum() if family == "mixtral" or config.get("norm_topk_prob") else 1.0
        total: Array = sum(
            (shares[expert] / scale * self._gated(x, f"{module}.experts.{expert}", parts) for expert in chosen),
            np.zeros_like(x),
        )
        if family == "deepseek" and config["n_shared_experts"]:
            total = total + self._gated(x, f"{prefix}mlp.shared_experts", parts)
        if family == "qwen2_moe":
            gate = 1 / (1 + np.exp(-self._linear(x, f"{prefix}mlp.shared_expert_gate")))
            total = total + gate * self._gated(x, f"{prefix}mlp.shared_expert", parts)
        return total

    def _gated(self, x: Array, module: str, parts: tuple[str, str, str]) -> Array:
        gate, up = self._linear(x, f"{module}.{parts[0]}"), self._linear(x, f"{module}.{parts[1]}")
        return self._linear(gate / (1 + np.exp(-gate)) * up, f"{module}.{parts[2]}")


def _softmax(x: Array) -> Array:
    raised = np.exp(x - x.max())
    return np.array(raised / raised.sum())
