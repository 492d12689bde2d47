"""Sizes and tensors of a mixture-of-experts model in the family `mixtral` (Jiang et al., arXiv 2401.04088)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from updraft.errors import BadModelFile
from updraft.models.llama_shape import LlamaShape

__all__ = ["EXPERT_PARTS", "MixtralShape", "mixtral_config"]

EXPERT_PARTS = ("w1", "w2", "w3")  # gate, down and up of SwiGLU, as the family names them
_MAX_EXPERTS = 256


@dataclass(frozen=True, slots=True)
class MixtralShape:
    """Sizes of a model whose layers are llama's, but for the feed-forward part: `active` of `experts` compute it.

    Attributes:
        base: everything else; `base.feed_forward` is the hidden size of one expert.
    """

    base: LlamaShape
    experts: int
    active: int

    @property
    def block(self) -> dict[str, tuple[int, ...]]:
        """The shapes of a block's tensors, by suffix."""
        width, hidden = self.base.width, self.base.feed_forward
        shared = {suffix: size for suffix, size in self.base.block.items() if not suffix.startswith("mlp.")}
        sizes = {"w1": (hidden, width), "w2": (width, hidden), "w3": (hidden, width)}
        experts = {
            f"block_sparse_moe.experts.{expert}.{part}.weight": sizes[part]
            for expert in range(self.experts)
            for part in EXPERT_PARTS
        }
        return shared | {"block_sparse_moe.gate.weight": (self.experts, width)} | experts

    @property
    def blocks(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all layers' tensors and of the final norm, by Hugging Face's names."""
        layers = range(self.base.layers)
        names = {f"model.layers.{n}.{suffix}": size for n in layers for suffix, size in self.block.items()}
        return names | {"model.norm.weight": (self.base.width,)}

    def fault(self) -> str | None:
        """What is wrong with the sizes, if anything."""
        if not 2 <= self.experts <= _MAX_EXPERTS or not 1 <= self.active <= self.experts:
            return f"{self.active} of {self.experts} experts"
        if not (1 <= self.base.rope_theta < math.inf and 0 < self.base.norm_epsilon < 1):
            return f"the rotary base {self.base.rope_theta} and the norm's epsilon {self.base.norm_epsilon}"
        return self.base.fault()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self.base), "experts": self.experts, "active": self.active}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MixtralShape:
        """Raises BadModelFile if a size is missing or absurd."""
        try:
            sizes: dict[str, Any] = {
                field.name: (float if field.name in ("rope_theta", "norm_epsilon") else int)(values[field.name])
                for field in fields(LlamaShape)
            }
            shape = cls(LlamaShape(**sizes), int(values["experts"]), int(values["active"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadModelFile(f"a mixture of experts needs other sizes: {error}") from error
        if fault := shape.fault():
            raise BadModelFile(f"a mixture of experts cannot have {fault}")
        return shape


def mixtral_config(shape: MixtralShape, *, bos: int | None, end_tokens: Iterable[int]) -> dict[str, Any]:
    """`config.json` as `transformers` reads it; embedding and output matrix are two."""
    base, ends = shape.base, sorted(end_tokens)
    return {
        "architectures": ["MixtralForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": bos,
        "dtype": "float32",
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
        "head_dim": base.head_size,
        "hidden_act": "silu",
        "hidden_size": base.width,
        "intermediate_size": base.feed_forward,
        "max_position_embeddings": base.context,
        "model_type": "mixtral",
        "num_attention_heads": base.heads,
        "num_experts_per_tok": shape.active,
        "num_hidden_layers": base.layers,
        "num_key_value_heads": base.kv_heads,
        "num_local_experts": shape.experts,
        "rms_norm_eps": base.norm_epsilon,
        "rope_theta": base.rope_theta,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "vocab_size": base.vocabulary,
    }
