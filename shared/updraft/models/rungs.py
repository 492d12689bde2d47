"""Rungs of the model ladder: what training adds to a trunk, one safetensors file each.

A rung is a small model made of a large one, its *trunk*: some of the trunk's layers as they are, some trained ones,
and a norm of its own before the trunk's output matrix. Only what was trained is in the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BadModelFile, WrongTrunk
from updraft.models.llama_shape import BLOCK_SUFFIXES, LlamaShape
from updraft.models.rows import quantised_rows, unpacked_rows
from updraft.models.weights import Weights
from updraft.tensor_file import TensorFile

__all__ = ["Precision", "Rung", "layers_text", "read_rung", "write_rung"]

FloatArray = NDArray[np.float32]
Precision = Literal["int8", "float16", "float32"]

_FILE = TensorFile("rung of a model ladder", "updraft-rung-1", 16 << 30)
_MAX_LAYERS = 4096


@dataclass(frozen=True, slots=True)
class Rung:
    """A rung of the ladder.

    Attributes:
        kind: an "exit" is the trunk's first k layers and one trained block, a "student" any layers of it.
        trunk: fingerprint of the model whose layers it is made of.
        sources: for each of its layers the trunk layer that it is or, if trained, that it started from.
        trained: which of its own layers were trained, counted from 0.
        tensors: float32 arrays: `layers.N.<suffix>` for trained layers, `norm.weight`, `head.*` of an exit's head.
        facts: what the training run says of it.
    """

    kind: Literal["exit", "student"]
    trunk: str
    sources: tuple[int, ...]
    trained: frozenset[int]
    tensors: Mapping[str, FloatArray]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layer(self) -> int:
        """How many trunk layers run before an exit's own block."""
        return len(self.sources) - 1

    @property
    def norm(self) -> FloatArray:
        return self.tensors["norm.weight"]

    def block(self, index: int, trunk: Weights) -> dict[str, FloatArray]:
        """The tensors of one of its layers, by suffix (keys of `BLOCK_SUFFIXES`)."""
        if index not in self.trained:
            return trunk.block(self.sources[index])
        return {suffix: self.tensors[f"layers.{index}.{suffix}"] for suffix in BLOCK_SUFFIXES}

    def check_trunk(self, trunk: Weights) -> None:
        """Raises WrongTrunk if it was trained on another model, BadModelFile if its tensors do not fit."""
        if trunk.fingerprint != self.trunk:
            raise WrongTrunk(
                f"the {self.kind} was trained on the model {self.trunk[:12]}…, this one is {trunk.fingerprint[:12]}…"
            )
        if max(self.sources) >= trunk.shape.layers:
            raise BadModelFile(f"the {self.kind} uses layer {max(self.sources)} of {trunk.shape.layers}")
        for name, shape in _shapes(self, trunk.shape).items():
            if self.tensors[name].shape != shape:
                raise BadModelFile(f"{name} has the shape {self.tensors[name].shape}, not {shape}")


def write_rung(rung: Rung, path: Path, precision: Precision = "int8") -> None:
    """Write a rung; matrices in `precision` (int8: one float16 scale a row, a head's in float16), vectors in float32.

    Raises ConfigError if the file cannot be written.
    """
    packed: dict[str, NDArray[Any]] = {}
    for name, values in rung.tensors.items():
        if name.startswith("layers.") and values.ndim == 2 and precision == "int8":
            packed |= quantised_rows(name, values)
        else:
            packed[name] = values.astype(np.float32 if precision == "float32" or values.ndim == 1 else np.float16)
    facts = {
        "kind": rung.kind,
        "trunk": rung.trunk,
        "sources": json.dumps(rung.sources),
        "trained": json.dumps(sorted(rung.trained)),
        "facts": json.dumps(dict(rung.facts)),
    }
    _FILE.write(path, packed, facts)


def read_rung(path: Path) -> Rung:
    """Read a rung.

    Raises:
        ModelNotFound: no such file.
        BadModelFile: not a rung, layers out of range or unordered, tensors missing, unknown or not finite.
        MissingExtra: safetensors is not installed.
    """
    facts, packed = _FILE.read(path)
    with _FILE.refusing(path):
        try:
            rung = Rung(
                cast("Any", facts["kind"]),
                facts["trunk"],
                tuple(json.loads(facts["sources"])),
                frozenset(json.loads(facts["trained"])),
                unpacked_rows(packed),
                json.loads(facts.get("facts", "{}")),
            )
        except (KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
            raise ValueError(f"its description has no usable {error}") from error
        if reason := _fault(rung):
            raise ValueError(reason)
    return rung


def _fault(rung: Rung) -> str | None:
    """What is wrong with a rung's description, if anything."""
    layers = rung.sources
    if not isinstance(rung.facts, dict):
        return "what it says of its training is not a JSON object"
    if rung.kind not in ("exit", "student"):
        return f"its kind is {rung.kind!r}"
    if not 1 <= len(layers) <= _MAX_LAYERS or not all(type(n) is int and 0 <= n < _MAX_LAYERS for n in layers):
        return f"its layers {layers!r} are out of range"
    if list(layers) != sorted(set(layers)):
        return f"its layers {layers!r} are unordered"
    if not rung.trained or not rung.trained <= set(range(len(layers))):
        return "its trained layers are not among its layers"
    if rung.kind == "exit" and (layers != tuple(range(len(layers))) or rung.trained != {len(layers) - 1}):
        return "an exit is the trunk's first layers and one trained block"
    wanted = {f"layers.{n}.{s}" for n in rung.trained for s in BLOCK_SUFFIXES} | {"norm.weight"}
    names = {name for name in rung.tensors if not name.startswith("head.")}
    if names != wanted:
        return f"its tensors differ from what its layers need, first in {min(names ^ wanted)}"
    broken = [name for name, values in rung.tensors.items() if not np.isfinite(values).all()]
    return f"{broken[0]} holds numbers that are not finite" if broken else None


def _shapes(rung: Rung, shape: LlamaShape) -> dict[str, tuple[int, ...]]:
    shapes = {f"layers.{n}.{suffix}": size for n in rung.trained for suffix, size in shape.block.items()}
    return {**shapes, "norm.weight": (shape.width,)}


def layers_text(layers: Sequence[int]) -> str:
    """Layer numbers for people: runs joined, as in `0-3, 28, 29`."""
    parts: list[str] = []
    for number in layers:
        first, _, last = (parts[-1] if parts else "").partition("-")
        if parts and int(last or first) + 1 == number:
            parts[-1] = f"{first}-{number}"
        else:
            parts.append(str(number))
    return ", ".join(parts)
