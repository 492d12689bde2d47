"""Names, types and shapes of what enters and leaves a staged model's graphs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from updraft.models.staged.manifest import Manifest

__all__ = ["Interface", "Sizes", "ValueShape", "interfaces", "kv_layer", "value_shape"]

ValueShape = tuple[int, tuple[int | str, ...]]  # an ONNX element type, and the dimensions

_FLOAT, _INT32, _INT64 = 1, 6, 7  # onnx.TensorProto.DataType
_KV = re.compile(r"(?:past_key_values|present)\.(0|[1-9]\d{0,3})\.(?:key|value)")
_LENGTHS = frozenset({"seqlens_k", "total_sequence_length"})


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that shapes are made of."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context_length: int


@dataclass(frozen=True, slots=True)
class Interface:
    """What one graph takes and gives: required inputs, optional inputs, outputs."""

    inputs: frozenset[str]
    optional: frozenset[str]
    outputs: frozenset[str]


def kv_layer(name: str) -> int | None:
    """The layer whose keys or values a name stands for."""
    found = _KV.fullmatch(name)
    return int(found[1]) if found else None


def value_shape(name: str, sizes: Sizes) -> ValueShape | None:
    """Type and dimensions of a named input or output; None for a name that no graph has."""
    stream: ValueShape = (_FLOAT, ("batch", "run", sizes.width))
    known: dict[str, ValueShape] = {
        "input_ids": (_INT64, ("batch", "run")),
        "position_ids": (_INT64, ("batch", "run")),
        "seqlens_k": (_INT32, ("batch",)),
        "total_sequence_length": (_INT32, ()),
        "hidden_in": stream,
        "hidden_out": stream,
        "features": stream,
        "logits": (_FLOAT, ("batch", "run", sizes.vocabulary)),
    }
    if kv_layer(name) is not None:
        length = "past" if name.startswith("past") else "total"
        return _FLOAT, ("batch", sizes.kv_heads, length, sizes.head_size)
    return known.get(name)


def interfaces(manifest: Manifest) -> dict[str, Interface]:
    """By file what each graph must take and give."""
    last = len(manifest.stages) - 1
    found = {
        stage.file: _layers(
            range(stage.first, stage.last),
            "input_ids" if index == 0 else "hidden_in",
            "features" if index == last else "hidden_out",
        )
        for index, stage in enumerate(manifest.stages)
    }
    found |= {part.file: _layers(range(part.blocks), "hidden_in", "features") for part in manifest.exits}
    return found | {manifest.head.file: Interface(frozenset({"features"}), frozenset(), frozenset({"logits"}))}


def _layers(layers: range, entry: str, end: str) -> Interface:
    def kv(side: str) -> frozenset[str]:
        return frozenset(f"{side}.{layer}.{kind}" for layer in layers for kind in ("key", "value"))

    optional = frozenset({"position_ids"})
    return Interface(kv("past_key_values") | _LENGTHS | {entry}, optional, kv("present") | {end})
