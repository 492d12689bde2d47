"""Exit heads: a small network on an exit's features that says whether the exit will agree with the full model.

PALBERT's exit head (arXiv 2204.03276: a multilayer perceptron with tanh on the layer's hidden state), with
a second output for the third verdict of stop-and-exit. A head's tensors are `head.N.weight` and `head.N.bias` in a
rung's file, and in a file of their own in a staged model's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BadModelFile, ModelNotFound
from updraft.exits.files import replace_file

__all__ = ["ExitHead", "HeadSays", "read_head", "write_head"]

_MAX_LAYERS = 8
_MAX_BYTES = 64 * 2**20
_PARTS = ("weight", "bias")
_RETRAIN = "Train the exits again with `updraft train exits`."

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HeadSays:
    """Two probabilities.

    Attributes:
        agrees: the exit's token is the full model's (PALBERT's lambda).
        hopeless: neither this exit nor a deeper one of the edge has the full model's token.
    """

    agrees: float
    hopeless: float


class ExitHead:
    """A trained head: affine layers with tanh between them, a logistic function at the end.

    Args:
        weights: one matrix a layer, float32, shape (out, in); the last has 2 rows.
        biases: one vector a layer, float32, shape (out,).
    """

    def __init__(self, weights: list[FloatArray], biases: list[FloatArray]) -> None:
        self._weights = weights
        self._biases = biases

    @property
    def width(self) -> int:
        """Features that it reads."""
        return int(self._weights[0].shape[1])

    def __call__(self, features: FloatArray) -> HeadSays:
        """What it says of one position; `features` has the shape (width,)."""
        agrees, hopeless = self.probabilities(features[None])[0]
        return HeadSays(float(agrees), float(hopeless))

    def probabilities(self, features: FloatArray) -> FloatArray:
        """Both probabilities of several positions, shape (n, 2), from features of shape (n, width)."""
        values = features
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            values = np.tanh(values @ weight.T + bias)
        logits = values @ self._weights[-1].T + self._biases[-1]
        # As a tanh, which cannot overflow.
        return cast("FloatArray", 0.5 + 0.5 * np.tanh(0.5 * logits))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]], width: int) -> ExitHead:
        """The head in `head.N.weight` and `head.N.bias`; other names are left alone.

        Raises:
            BadModelFile: a tensor is missing, of a shape that does not fit, or not finite.
        """
        own = {name: np.asarray(values, np.float32) for name, values in tensors.items() if name.startswith("head.")}
        layers = len(own) // 2
        if not 1 <= layers <= _MAX_LAYERS or set(own) != {f"head.{n}.{p}" for n in range(layers) for p in _PARTS}:
            raise BadModelFile(f"an exit head has the tensors {', '.join(sorted(own)[:8]) or 'none'}", remedy=_RETRAIN)
        weights = [own[f"head.{number}.weight"] for number in range(layers)]
        biases = [own[f"head.{number}.bias"] for number in range(layers)]
        reads = width
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            if weight.ndim != 2 or weight.shape[1] != reads or bias.shape != weight.shape[:1]:
                raise BadModelFile(
                    f"layer {number} of an exit head has the shapes {weight.shape} and {bias.shape}, and reads {reads}",
                    remedy=_RETRAIN,
                )
            reads = weight.shape[0]
        if reads != 2:
            raise BadModelFile(f"an exit head has {reads} outputs, not 2", remedy=_RETRAIN)
        if not all(np.isfinite(values).all() for values in own.values()):
            raise BadModelFile("an exit head holds numbers that are not finite", remedy=_RETRAIN)
        return cls(weights, biases)

    def tensors(self) -> dict[str, FloatArray]:
        """The inverse of `from_tensors`."""
        layers = enumerate(zip(self._weights, self._biases, strict=True))
        return {
            f"head.{number}.{part}": values
            for number, pair in layers
            for part, values in zip(_PARTS, pair, strict=True)
        }


def write_head(path: Path, head: ExitHead) -> None:
    """Write a head to a file of its own, all at once."""
    from safetensors.numpy import save

    tensors = {name: np.ascontiguousarray(values) for name, values in head.tensors().items()}
    replace_file(path, save(tensors))


def read_head(path: Path, width: int) -> ExitHead:
    """The head in a rung's file, or in a staged model's file of heads.

    Args:
        width: of the model's hidden states.

    Raises:
        ModelNotFound: there is no such file.
        BadModelFile: it holds no head, or one of another width.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelNotFound(f"there is no exit head at {path}", remedy=_RETRAIN)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
        with safe_open(path, framework="np") as opened:
            names = [name for name in opened.keys() if name.startswith("head.")]  # noqa: SIM118
            tensors = {name: np.asarray(opened.get_tensor(name)) for name in names}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise BadModelFile(f"{path} holds no exit head: {error}", remedy=_RETRAIN) from error
    return ExitHead.from_tensors(tensors, width)
