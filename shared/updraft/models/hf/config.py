"""`config.json` of a Hugging Face folder: what it says, checked for sense, in one form for all families."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from updraft.errors import BadModelFile
from updraft.models.hf.families import FAMILIES, Family, MoeNames
from updraft.models.hf.files import read_object

__all__ = ["FAMILIES", "HfConfig", "MoeConfig", "Rope", "parse_config", "read_config"]

_MAX_LAYERS = 4096
_MAX_SIZE = 1 << 24
_MAX_EXPERTS = 4096
_HEADS = ("ForTokenClassification", "ForSequenceClassification")
_LATENT = "its attention is multi-head latent attention (MLA), which is not supported; DeepSeek's first MoE model is"


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions. `linear` divides positions by `factor`; `llama3` the low frequencies, with a ramp between."""

    theta: float
    kind: Literal["default", "linear", "llama3"] = "default"
    factor: float = 1.0
    low_frequency: float = 1.0
    high_frequency: float = 4.0
    original_context: int = 8192


@dataclass(frozen=True, slots=True)
class MoeConfig:
    """The routed experts of a model; sizes are counts.

    Attributes:
        layers: numbers of the layers that have experts.
        active: experts that each token chooses.
        hidden: width inside an expert.
        normalised: the weights of the chosen ones are made to sum to 1.
        shared_hidden: width inside the expert that every token passes; 0 for none.
        names: of its tensors.
    """

    layers: tuple[int, ...]
    experts: int
    active: int
    hidden: int
    normalised: bool
    shared_hidden: int
    names: MoeNames


@dataclass(frozen=True, slots=True)
class HfConfig:
    """A model's sizes and what its family adds to the plain llama architecture; sizes are counts.

    Attributes:
        family: the `model_type`.
        qkv_bias, output_bias, mlp_bias: which linear layers have biases.
        clip_qkv: bound on the values of queries, keys and values.
        window: positions that some layer attends to, where that is not all of them.
        moe: None for a dense model.
    """

    family: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    vocabulary: int
    context: int
    norm_epsilon: float
    rope: Rope
    tied: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: Literal["none", "head", "whole"]
    clip_qkv: float | None
    window: int | None
    moe: MoeConfig | None


def read_config(folder: Path, *, head: bool = False) -> HfConfig:
    """Read and check a folder's `config.json`; with `head` it must be of a model with a score head.

    Raises:
        ModelNotFound: there is none.
        BadModelFile: a family, a feature or a value that is not supported.
    """
    path = folder / "config.json"
    return parse_config(read_object(path), path, head=head)


def parse_config(values: Mapping[str, Any], path: Path, *, head: bool = False) -> HfConfig:
    """The same of its contents; `path` is for messages."""
    try:
        config = _parse(_Values(values), head=head)
    except _FaultError as fault:
        raise BadModelFile(
            f"{path}: {fault}", remedy="Use a model of a supported family, as it was published."
        ) from None
    return config


class _FaultError(Exception):
    """What is wrong with a configuration."""


class _Values:
    """Typed reads; null counts as left out, as for transformers."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def whole(self, key: str, default: int | None = None, *, low: int = 1, high: int = _MAX_SIZE) -> int:
        value = self.get(key)
        value = default if value is None else value
        if type(value) is not int or not low <= value <= high:
            raise _FaultError(f"{key} is {value!r}, not a whole number from {low} to {high}")
        return value

    def number(self, key: str, default: float) -> float:
        value = self.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise _FaultError(f"{key} is {value!r}, not a number above 0")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key)
        value = default if value is None else value
        if type(value) is not bool:
            raise _FaultError(f"{key} is {value!r}, not true or false")
        return value

    def whole_numbers(self, key: str) -> list[int]:
        value = self.get(key)
        value = [] if value is None else value
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise _FaultError(f"{key} is not a list of whole numbers")
        return value

    def section(self, key: str) -> _Values:
        value = self.get(key)
        value = {} if value is None else value
        if not isinstance(value, dict):
            raise _FaultError(f"{key} is not an object")
        return _Values(value)


def _parse(values: _Values, *, head: bool) -> HfConfig:
    name, family = _family(values, head=head)
    width, heads = values.whole("hidden_size"), values.whole("num_attention_heads")
    kv_heads = values.whole("num_key_value_heads", heads)
    head_size = values.whole("head_dim", max(1, width // heads))
    if heads % kv_heads or head_size % 2:
        raise _FaultError(f"{heads} heads of {head_size} do not go with {kv_heads} of keys")
    if values.get("hidden_act") not in (None, "silu", "swish"):
        raise _FaultError(f"its activation is {values.get('hidden_act')!r}, not silu")
    if values.get("quantization_config") is not None:
        raise _FaultError("its weights are quantised (quantization_config), which is not supported here")
    layers = values.whole("num_hidden_layers", high=_MAX_LAYERS)
    asked_bias = values.flag("attention_bias", False)
    if asked_bias and family.bias != "config":
        raise _FaultError(f"attention_bias is set, which {name} does not have")
    return HfConfig(
        family=name,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        feed_forward=values.whole("intermediate_size"),
        vocabulary=values.whole("vocab_size"),
        context=values.whole("max_position_embeddings", high=1 << 30),
        norm_epsilon=values.number("rms_norm_eps", family.epsilon),
        rope=_rope(values),
        tied=values.flag("tie_word_embeddings", False),
        qkv_bias=asked_bias or (family.bias == "qkv" and values.flag("qkv_bias", True)),
        output_bias=asked_bias,
        mlp_bias=name == "llama" and values.flag("mlp_bias", False),
        qk_norm=family.qk_norm,
        clip_qkv=values.number("clip_qkv", 1.0) if values.get("clip_qkv") is not None else None,
        window=_window(values, family),
        moe=None if family.moe is None else _moe(values, name, layers, family.moe),
    )


def _family(values: _Values, *, head: bool) -> tuple[str, Family]:
    name, named = values.get("model_type"), values.get("architectures")
    if str(name).startswith("deepseek_v") or values.get("kv_lora_rank") is not None:
        raise _FaultError(f"the architecture {name!r} is not supported: {_LATENT}")
    if not isinstance(name, str) or name not in FAMILIES:
        raise _FaultError(f"the architecture {name!r} is not supported; supported are {', '.join(FAMILIES)}")
    family = FAMILIES[name]
    stem = family.architecture.removesuffix("ForCausalLM")
    wanted = [f"{stem}{kind}" for kind in _HEADS] if head else [family.architecture]
    if named is not None and named not in [[one] for one in wanted]:
        what = "a model with a score head" if head else "the causal model"
        raise _FaultError(f"the architectures are {named!r}, not {' or '.join(map(repr, wanted))}, {what} of {name}")
    return name, family


def _rope(values: _Values) -> Rope:
    """Older configurations have `rope_theta` beside `rope_scaling`; newer ones both in `rope_parameters`."""
    newer, older = values.section("rope_parameters"), values.section("rope_scaling")
    scaling = newer if newer.values else older
    theta = scaling.number("rope_theta", values.number("rope_theta", 10_000.0))
    if any(section.number("partial_rotary_factor", 1.0) != 1.0 for section in (values, scaling)):
        raise _FaultError("only a part of each head is rotated (partial_rotary_factor), which is not supported here")
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, "linear", scaling.number("factor", 1.0))
    if kind == "llama3":
        return Rope(
            theta,
            "llama3",
            scaling.number("factor", 1.0),
            scaling.number("low_freq_factor", 1.0),
            scaling.number("high_freq_factor", 4.0),
            scaling.whole("original_max_position_embeddings", 8192),
        )
    raise _FaultError(f"its rotary positions are scaled by {kind!r}; supported are default, linear and llama3")


def _window(values: _Values, family: Family) -> int | None:
    if not family.windowed and not values.flag("use_sliding_window", False):
        return None
    return None if values.get("sliding_window") is None else values.whole("sliding_window", high=1 << 30)


def _moe(values: _Values, name: str, layers: int, names: MoeNames) -> MoeConfig | None:
    sparse = tuple(filter(_sparse(values, name), range(layers)))
    if not sparse or (name == "deepseek" and values.get(names.count) is None):
        return None
    experts = values.whole(names.count, high=_MAX_EXPERTS)
    hidden = values.whole(names.hidden)
    if values.get("scoring_func") not in (None, "softmax"):
        raise _FaultError(f"its router scores by {values.get('scoring_func')!r}, not softmax")
    shared = 0
    if names.shared_gate:
        shared = values.whole("shared_expert_intermediate_size")
    elif names.shared is not None:
        shared = hidden * values.whole("n_shared_experts", 0, low=0, high=_MAX_EXPERTS)
    return MoeConfig(
        layers=sparse,
        experts=experts,
        active=values.whole("num_experts_per_tok", high=experts),
        hidden=hidden,
        normalised=values.flag("norm_topk_prob", False) if names.normalised is None else names.normalised,
        shared_hidden=shared,
        names=names,
    )


def _sparse(values: _Values, name: str) -> Callable[[int], bool]:
    """Which layers have experts."""
    if name == "deepseek":
        first, every = values.whole("first_k_dense_replace", 0, low=0), values.whole("moe_layer_freq", 1)
        return lambda layer: layer >= first and layer % every == 0
    if name in ("qwen2_moe", "qwen3_moe"):
        step, dense = values.whole("decoder_sparse_step", 1), values.whole_numbers("mlp_only_layers")
        return lambda layer: layer not in dense and (layer + 1) % step == 0
    return lambda layer: True
