"""The tensors that a configuration asks for, by name: what a folder is held against."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from updraft.models.hf.config import HfConfig, MoeConfig

__all__ = ["expert_names", "expert_shapes", "fault", "layer_prefix", "tensor_shapes"]

Shape = tuple[int, ...]

_NEEDLESS = re.compile(r"\.rotary_emb\.inv_freq$")  # computed; some older files hold it
_NAMED = 3  # tensors that a message names


def layer_prefix(layer: int) -> str:
    """What the names of a layer's tensors begin with."""
    return f"model.layers.{layer}."


def expert_names(moe: MoeConfig, layer: int, expert: int) -> dict[str, str]:
    """Tensor names of one expert by `gate`, `up` and `down`; `layer` counts all layers."""
    prefix = f"{layer_prefix(layer)}{moe.names.module}.experts.{expert}."
    return {part: f"{prefix}{name}.weight" for part, name in zip(("gate", "up", "down"), moe.names.parts, strict=True)}


def expert_shapes(config: HfConfig, moe: MoeConfig) -> dict[str, Shape]:
    """Shapes of one expert's matrices by `gate`, `up` and `down`."""
    return _feed_forward(("gate", "up", "down"), config.width, moe.hidden)


def tensor_shapes(config: HfConfig) -> dict[str, Shape]:
    """The shapes of all tensors by Hugging Face's names; without `lm_head.weight` where that is the embedding."""
    table = (config.vocabulary, config.width)
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": table, "model.norm.weight": (config.width,)}
    if not config.tied:
        shapes["lm_head.weight"] = table
    sparse = frozenset(config.moe.layers if config.moe else ())
    for layer in range(config.layers):
        shapes.update((layer_prefix(layer) + name, shape) for name, shape in _attention(config))
        if config.moe is not None and layer in sparse:
            shapes.update(_moe(config, config.moe, layer))
        else:
            shapes.update((layer_prefix(layer) + name, shape) for name, shape in _dense(config))
    return shapes


def fault(config: HfConfig, found: Mapping[str, Shape], *, head: bool = False) -> str | None:
    """What is wrong with the tensors of a folder, if anything: missing ones, unknown ones, other shapes.

    With `head` there is a score head of any number of labels, with or without a bias, in place of the output matrix.
    """
    wanted = tensor_shapes(config)
    if head:
        wanted.pop("lm_head.weight", None)
        labels = next(iter(found.get("score.weight", ())), 1)
        wanted["score.weight"] = (labels, config.width)
        if "score.bias" in found:
            wanted["score.bias"] = (labels,)
    if missing := [name for name in wanted if name not in found]:
        return f"lacks {_listed(missing)}"
    spare = {"lm_head.weight"} if config.tied or head else set()
    if extra := [name for name in found if name not in wanted and name not in spare and not _NEEDLESS.search(name)]:
        count = f", and config.json says {config.moe.experts} experts a layer" if config.moe else ""
        return f"has {_listed(extra)}; the family {config.family!r} has no such tensors{count}"
    for name, shape in wanted.items():
        if found[name] != shape:
            return f"has {name} of the shape {found[name]}; its config.json says {shape}"
    return None


def _attention(config: HfConfig) -> Iterator[tuple[str, Shape]]:
    queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
    yield "input_layernorm.weight", (config.width,)
    yield "post_attention_layernorm.weight", (config.width,)
    for part, rows in (("q", queries), ("k", keys), ("v", keys)):
        yield f"self_attn.{part}_proj.weight", (rows, config.width)
        if config.qkv_bias:
            yield f"self_attn.{part}_proj.bias", (rows,)
    yield "self_attn.o_proj.weight", (config.width, queries)
    if config.output_bias:
        yield "self_attn.o_proj.bias", (config.width,)
    if config.qk_norm != "none":
        whole = config.qk_norm == "whole"
        yield "self_attn.q_norm.weight", (queries if whole else config.head_size,)
        yield "self_attn.k_norm.weight", (keys if whole else config.head_size,)


def _dense(config: HfConfig) -> Iterator[tuple[str, Shape]]:
    for name, shape in _feed_forward(("gate_proj", "up_proj", "down_proj"), config.width, config.feed_forward).items():
        yield f"mlp.{name}.weight", shape
        if config.mlp_bias:
            yield f"mlp.{name}.bias", shape[:1]


def _moe(config: HfConfig, moe: MoeConfig, layer: int) -> Iterator[tuple[str, Shape]]:
    prefix, names = layer_prefix(layer), moe.names
    yield f"{prefix}{names.module}.gate.weight", (moe.experts, config.width)
    shapes = expert_shapes(config, moe)
    for expert in range(moe.experts):
        for part, name in expert_names(moe, layer, expert).items():
            yield name, shapes[part]
    if moe.shared_hidden:
        shared = _feed_forward(("gate_proj", "up_proj", "down_proj"), config.width, moe.shared_hidden)
        yield from ((f"{prefix}{names.shared}.{name}.weight", shape) for name, shape in shared.items())
    if names.shared_gate:
        yield f"{prefix}{names.shared}_gate.weight", (1, config.width)


def _feed_forward(names: tuple[str, str, str], width: int, hidden: int) -> dict[str, Shape]:
    return dict(zip(names, ((hidden, width), (hidden, width), (width, hidden)), strict=True))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
