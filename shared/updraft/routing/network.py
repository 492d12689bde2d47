"""A small multilayer perceptron in numpy: applied to one token in microseconds, trained without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BadModelFile

__all__ = ["Network", "fit"]

Floats = NDArray[np.float32]

_MAX_LAYERS = 8
_PARTS = ("weight", "bias")
_RETRAIN = "Train the router again with `updraft train router`."


class Network:
    """Affine layers with tanh between them and a logistic function at the end.

    Args:
        weights: one matrix a layer, float32, shape (out, in).
        biases: one vector a layer, float32, shape (out,).
    """

    def __init__(self, weights: Sequence[Floats], biases: Sequence[Floats]) -> None:
        self._weights = [np.ascontiguousarray(weight, np.float32) for weight in weights]
        self._biases = [np.asarray(bias, np.float32) for bias in biases]

    @property
    def reads(self) -> int:
        return int(self._weights[0].shape[1])

    @property
    def gives(self) -> int:
        return int(self._weights[-1].shape[0])

    def __call__(self, features: Floats) -> Floats:
        """Probabilities, shape (..., gives), of features of shape (..., reads). NaN stays NaN."""
        values = features
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            values = np.tanh(values @ weight.T + bias)
        logits = values @ self._weights[-1].T + self._biases[-1]
        # As a tanh, which cannot overflow.
        return cast("Floats", 0.5 + 0.5 * np.tanh(0.5 * logits))

    def tensors(self, name: str) -> dict[str, Floats]:
        """The inverse of `from_tensors`."""
        layers = enumerate(zip(self._weights, self._biases, strict=True))
        return {
            f"{name}.{number}.{part}": values
            for number, pair in layers
            for part, values in zip(_PARTS, pair, strict=True)
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]], name: str, *, reads: int, gives: int) -> Network:
        """The network in `NAME.N.weight` and `NAME.N.bias`.

        Raises:
            BadModelFile: a tensor is missing, of a shape that does not fit, or not finite.
        """
        own = {key: np.asarray(value, np.float32) for key, value in tensors.items() if key.startswith(f"{name}.")}
        layers = len(own) // 2
        if not 1 <= layers <= _MAX_LAYERS or set(own) != {f"{name}.{n}.{p}" for n in range(layers) for p in _PARTS}:
            raise BadModelFile(
                f"the network {name!r} has the tensors {', '.join(sorted(own)[:8]) or 'none'}", remedy=_RETRAIN
            )
        width = reads
        for number in range(layers):
            weight, bias = own[f"{name}.{number}.weight"], own[f"{name}.{number}.bias"]
            if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
                raise BadModelFile(
                    f"layer {number} of the network {name!r} has the shapes {weight.shape} and {bias.shape}, "
                    f"and reads {width}",
                    remedy=_RETRAIN,
                )
            width = weight.shape[0]
        if width != gives:
            raise BadModelFile(f"the network {name!r} has {width} outputs, not {gives}", remedy=_RETRAIN)
        if not all(np.isfinite(values).all() for values in own.values()):
            raise BadModelFile(f"the network {name!r} holds numbers that are not finite", remedy=_RETRAIN)
        numbers = range(layers)
        return cls([own[f"{name}.{n}.weight"] for n in numbers], [own[f"{name}.{n}.bias"] for n in numbers])


def fit(
    features: Floats,
    labels: Floats,
    *,
    hidden: Sequence[int] = (32,),
    epochs: int = 30,
    batch: int = 512,
    rate: float = 3e-3,
    decay: float = 1e-4,
    seed: int = 0,
) -> Network:
    """Fit by binary cross-entropy with Adam (Kingma, Ba, arXiv 1412.6980), decoupled weight decay, falling rate.

    Args:
        features: shape (n, reads).
        labels: probabilities from 0 to 1, shape (n, gives); NaN where one is unknown.
        hidden: widths of the hidden layers; none is a logistic regression.
        batch: rows in a step, at most; few rows are cut finer.

    Raises:
        ValueError: fewer than two rows, or features that are not finite.
    """
    if len(features) < 2 or len(features) != len(labels) or not np.isfinite(features).all():
        raise ValueError("fitting needs at least two rows of finite features, with one label each")
    random = np.random.default_rng(seed)
    mean, spread = features.mean(0), features.std(0) + 1e-6
    rows = (features - mean) / spread
    parameters = _start(features.shape[1], hidden, labels, random)
    state = [np.zeros((2, *values.shape), np.float32) for values in parameters]
    batch = min(batch, max(32, len(rows) // 32))
    steps = epochs * -(-len(rows) // batch)
    step = 0
    for _ in range(epochs):
        order = random.permutation(len(rows))
        for start in range(0, len(rows), batch):
            chosen = order[start : start + batch]
            step += 1
            gradients = _gradients(parameters, rows[chosen], labels[chosen])
            now = rate * (1.0 - (step - 1) / steps)
            _adam(parameters, gradients, state, step, now, decay)
    # The standardisation goes into the first layer: a network reads features as they are.
    parameters[0] = parameters[0] / spread
    parameters[1] = parameters[1] - parameters[0] @ mean
    return Network(parameters[0::2], parameters[1::2])


def _start(reads: int, hidden: Sequence[int], labels: Floats, random: np.random.Generator) -> list[Floats]:
    """Weights and biases in turn; the last biases start at the labels' shares."""
    parameters: list[Floats] = []
    for width, gives in pairwise([reads, *hidden, labels.shape[1]]):
        parameters.append(random.normal(0, width**-0.5, (gives, width)).astype(np.float32))
        parameters.append(np.zeros(gives, np.float32))
    share = np.clip(np.nan_to_num(np.nanmean(labels, 0), nan=0.5), 1e-3, 1 - 1e-3)
    parameters[-1] = np.log(share / (1 - share)).astype(np.float32)
    return parameters


def _gradients(parameters: list[Floats], rows: Floats, labels: Floats) -> list[Floats]:
    """Gradients of the mean cross-entropy over the labels that are known."""
    activations = [rows]
    for number in range(0, len(parameters) - 2, 2):
        activations.append(np.tanh(activations[-1] @ parameters[number].T + parameters[number + 1]))
    logits = activations[-1] @ parameters[-2].T + parameters[-1]
    error = np.nan_to_num(0.5 + 0.5 * np.tanh(0.5 * logits) - labels, nan=0.0) / len(rows)
    gradients: list[Floats] = []
    for number in range(len(parameters) - 2, -1, -2):
        below = activations[number // 2]
        gradients = [error.T @ below, error.sum(0), *gradients]
        error = (error @ parameters[number]) * (1 - below**2)
    return gradients


def _adam(
    parameters: list[Floats], gradients: list[Floats], state: list[Floats], step: int, rate: float, decay: float
) -> None:
    for values, gradient, (first, second) in zip(parameters, gradients, state, strict=True):
        first += 0.1 * (gradient - first)
        second += 0.001 * (gradient**2 - second)
        move = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        values -= np.float32(rate) * (move + np.float32(decay) * values).astype(np.float32)
