"""A mixture of experts in one small file: int8 matrices, and two projections in place of the vocabulary's matrices.

Embedding and output matrix are the trunk's embedding times a projection each, so that the trunk is needed to make a
model of the file, see `updraft.models.moe.folder`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BadModelFile, WrongTrunk
from updraft.models.moe.shape import MixtralShape
from updraft.models.rows import quantised_rows, unpacked_rows
from updraft.models.weights import Weights
from updraft.tensor_file import TensorFile

__all__ = ["INPUT", "OUTPUT", "PackedMoe", "read_moe", "write_moe"]

FloatArray = NDArray[np.float32]

INPUT, OUTPUT = "input", "output"
_FILE = TensorFile("mixture of experts", "updraft-moe-1", 16 << 30)
_GATE = "gate.weight"  # small, and a choice hangs on it


@dataclass(frozen=True, slots=True)
class PackedMoe:
    """A mixture of experts on a trunk's vocabulary.

    Attributes:
        trunk: fingerprint of the model whose embedding matrix it is read and written through.
        tensors: float32 arrays by Hugging Face's names (`MixtralShape.blocks`), and the projections `input` and
            `output`, shape (trunk width, width).
        facts: what the training run says of it.
    """

    shape: MixtralShape
    trunk: str
    tensors: Mapping[str, FloatArray]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def matrices(self, trunk: Weights) -> tuple[FloatArray, FloatArray]:
        """Embedding and output matrix, shape (vocabulary, width).

        Raises WrongTrunk if it was trained on another model, BadModelFile if its projections do not fit.
        """
        if trunk.fingerprint != self.trunk:
            raise WrongTrunk(
                f"the mixture of experts was trained on the model {self.trunk[:12]}…, "
                f"this one is {trunk.fingerprint[:12]}…"
            )
        wanted = (trunk.shape.width, self.shape.base.width)
        if self.tensors[INPUT].shape != wanted or trunk.shape.vocabulary != self.shape.base.vocabulary:
            raise BadModelFile(f"its projections have the shape {self.tensors[INPUT].shape}, not {wanted}")
        table = trunk["model.embed_tokens.weight"]
        scale = np.float32(self.shape.base.width**-0.5)
        return table @ self.tensors[INPUT], table @ self.tensors[OUTPUT] * scale


def write_moe(moe: PackedMoe, path: Path) -> None:
    """Write the file all at once; matrices as int8 with a float16 scale a row, projections and routers as float16.

    Raises ConfigError if it cannot be written.
    """
    packed: dict[str, NDArray[Any]] = {}
    for name, values in moe.tensors.items():
        if values.ndim == 1:
            packed[name] = values.astype(np.float32)
        elif name in (INPUT, OUTPUT) or name.endswith(_GATE):
            packed[name] = values.astype(np.float16)
        else:
            packed |= quantised_rows(name, values)
    facts = {
        "trunk": moe.trunk,
        "shape": json.dumps(moe.shape.to_json()),
        "facts": json.dumps(dict(moe.facts)),
    }
    _FILE.write(path, packed, facts)


def read_moe(path: Path) -> PackedMoe:
    """Read such a file.

    Raises:
        ModelNotFound: no such file.
        BadModelFile: not such a file, or tensors missing, unknown, of another shape or not finite.
        MissingExtra: safetensors is not installed.
    """
    facts, packed = _FILE.read(path)
    with _FILE.refusing(path):
        shape = MixtralShape.from_json(json.loads(facts["shape"]))
        moe = PackedMoe(shape, facts["trunk"], unpacked_rows(packed), json.loads(facts["facts"]))
        if reason := _fault(moe):
            raise ValueError(reason)
    return moe


def _fault(moe: PackedMoe) -> str | None:
    """What is wrong with its tensors, if anything."""
    shapes, width = {name: values.shape for name, values in moe.tensors.items()}, moe.shape.base.width
    projections = {name: shapes.get(name) for name in (INPUT, OUTPUT)}
    if projections[INPUT] != projections[OUTPUT] or (projections[INPUT] or ())[1:] != (width,):
        return f"its projections have the shapes {projections[INPUT]} and {projections[OUTPUT]}"
    wanted = {**moe.shape.blocks, **projections}
    different = [name for name in sorted(wanted.keys() | shapes.keys()) if wanted.get(name) != shapes.get(name)]
    if different:
        return f"{different[0]} has the shape {shapes.get(different[0])}, not {wanted.get(different[0])}"
    broken = [name for name, values in moe.tensors.items() if not np.isfinite(values).all()]
    return f"{broken[0]} holds numbers that are not finite" if broken else None
