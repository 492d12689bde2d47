"""What tells the supported families apart: everything that their `config.json` leaves to the model's code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FAMILIES", "Family", "MoeNames"]


@dataclass(frozen=True, slots=True)
class MoeNames:
    """Where a family keeps its experts: keys of its configuration, and names of its tensors below a layer.

    Attributes:
        count: key of the number of experts in a layer.
        hidden: key of an expert's width.
        normalised: whether the chosen experts' weights are made to sum to 1; None where `norm_topk_prob` says so.
        module: of the router (`MODULE.gate.weight`) and the experts (`MODULE.experts.N.PART.weight`).
        parts: an expert's gate, up and down matrices.
        shared: module of the expert that every token passes, if there is one.
        shared_gate: whether that one has a gate.
    """

    count: str
    hidden: str
    normalised: bool | None = None
    module: str = "mlp"
    parts: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    shared: str | None = None
    shared_gate: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type`.

    Attributes:
        architecture: the class that `architectures` names.
        bias: of query, key and value; "config" where `attention_bias` says so, then of the output, too.
        qk_norm: norm of queries and keys: of each head by itself, or of all heads together.
        windowed: attends to the last `sliding_window` positions where it is set; else where `use_sliding_window` is.
        epsilon: of norms where the configuration has none.
    """

    architecture: str
    bias: Literal["none", "qkv", "config"] = "none"
    qk_norm: Literal["none", "head", "whole"] = "none"
    windowed: bool = False
    epsilon: float = 1e-6
    moe: MoeNames | None = None


FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaForCausalLM", bias="config"),
    "mistral": Family("MistralForCausalLM", windowed=True),
    "qwen2": Family("Qwen2ForCausalLM", bias="qkv"),
    "qwen3": Family("Qwen3ForCausalLM", bias="config", qk_norm="head"),
    "mixtral": Family(
        "MixtralForCausalLM",
        windowed=True,
        epsilon=1e-5,
        moe=MoeNames(
            "num_local_experts",
            "intermediate_size",
            normalised=True,
            module="block_sparse_moe",
            parts=("w1", "w3", "w2"),
        ),
    ),
    "qwen2_moe": Family(
        "Qwen2MoeForCausalLM",
        bias="qkv",
        moe=MoeNames("num_experts", "moe_intermediate_size", shared="mlp.shared_expert", shared_gate=True),
    ),
    "qwen3_moe": Family(
        "Qwen3MoeForCausalLM", bias="config", qk_norm="head", moe=MoeNames("num_experts", "moe_intermediate_size")
    ),
    "olmoe": Family(
        "OlmoeForCausalLM",
        bias="config",
        qk_norm="whole",
        epsilon=1e-5,
        moe=MoeNames("num_experts", "intermediate_size"),
    ),
    "deepseek": Family(
        "DeepseekForCausalLM",
        bias="config",
        moe=MoeNames("n_routed_experts", "moe_intermediate_size", shared="mlp.shared_experts"),
    ),
}
