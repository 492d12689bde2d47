"""The acceptance head: a small network that says from the drafter's last hidden state whether its token will stand.

SpecDec++ (arXiv 2405.19715, section 3.3): residual blocks x + SiLU(W x + b) and a linear layer with two outputs. Its
head is as wide as its 7B drafter; a small edge model could not afford that on every token, so the state is projected to
a narrow width first, and what the row of logits says anyway (confidence, entropy, log-probability) is read with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BadModelFile, WrongTrunk
from updraft.tensor_file import TensorFile

__all__ = ["FEATURES", "AcceptanceHead", "features_of", "read_acceptance_head", "write_acceptance_head"]

FEATURES = 3
"""Numbers read besides the hidden state: see `features_of`."""

_MAX_BLOCKS = 16
_RETRAIN = "Train one with `updraft train acceptance`."
_FILE = TensorFile("acceptance head", "updraft-acceptance-head-1", 64 << 20, _RETRAIN)

FloatArray = NDArray[np.float32]


def features_of(top_probability: float, entropy: float, logprob: float) -> tuple[float, float, float]:
    """Confidence as -log2(1 - p), entropy in nats and the drawn token's log-probability, all scaled to about 0 to 2."""
    left = max(1.0 - top_probability, 2.0**-16)
    return -math.log2(left) / 8.0, entropy / 4.0, max(logprob, -16.0) / 8.0


@dataclass(frozen=True)
class AcceptanceHead:
    """A trained head. Calling it gives the probability that the cloud lets the token stand.

    Attributes:
        tensors: `scale` (width,), `project.weight` (narrow, width + 3), `project.bias`, `blocks.N.weight`
            (narrow, narrow), `blocks.N.bias`, `out.weight` (narrow + 3,), `out.bias` (1,), all float32.
        edge, cloud: fingerprints of the models that it was trained for.
        rejected_weight: how much more a rejected token weighed in training; taken out of the odds again.
        facts: what the training run says of it.
    """

    tensors: Mapping[str, FloatArray]
    edge: str
    cloud: str
    rejected_weight: float = 1.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fault = _fault(self.tensors)
        if fault:
            raise BadModelFile(f"an acceptance head {fault}", remedy=_RETRAIN)

    @property
    def width(self) -> int:
        """Of the hidden states that it reads."""
        return len(self.tensors["scale"])

    @property
    def blocks(self) -> int:
        return sum(name.startswith("blocks.") and name.endswith(".weight") for name in self.tensors)

    def __call__(self, hidden: FloatArray, top_probability: float, entropy: float, logprob: float) -> float:
        """For one token; `hidden`: the drafter's last normalised state that it was drawn from, shape (width,).

        nan where the state is not finite, which calibration refuses.
        """
        first, rest, bias = self._projection
        features = np.array(features_of(top_probability, entropy, logprob), np.float32)
        return float(self._judge(first @ hidden + rest @ features + bias, features))

    def probabilities(self, hidden: FloatArray, features: FloatArray) -> FloatArray:
        """For several tokens, shape (n,), from states (n, width) and features (n, 3)."""
        first, rest, bias = self._projection
        return self._judge(hidden @ first.T + features @ rest.T + bias, features)

    @cached_property
    def _projection(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The first layer's weights on the state, with its scale in them, those on the features, and its bias."""
        weight, width = self.tensors["project.weight"], self.width
        return (
            np.ascontiguousarray(weight[:, :width] * self.tensors["scale"]),
            weight[:, width:],
            self.tensors["project.bias"],
        )

    @cached_property
    def _residuals(self) -> list[tuple[FloatArray, FloatArray]]:
        names = [f"blocks.{number}" for number in range(self.blocks)]
        return [
            (np.ascontiguousarray(self.tensors[f"{name}.weight"].T), self.tensors[f"{name}.bias"]) for name in names
        ]

    def _judge(self, values: NDArray[Any], features: FloatArray) -> FloatArray:
        """Probabilities from projected states and features, shapes (n, narrow) and (n, 3) or without n."""
        for weight, bias in self._residuals:
            inner = values @ weight + bias
            values = values + inner * _logistic(inner)  # SiLU
        weight, narrow = self.tensors["out.weight"], values.shape[-1]
        logits = values @ weight[:narrow] + features @ weight[narrow:]
        return _logistic(logits + (self.tensors["out.bias"][0] + math.log(self.rejected_weight)))

    def check(self, *, width: int, fingerprint: str) -> None:
        """Raises WrongTrunk if it was trained for another edge model, BadModelFile if it reads another width."""
        if fingerprint != self.edge:
            raise WrongTrunk(
                f"the acceptance head was trained for the model {self.edge[:12]}…, the edge's is {fingerprint[:12]}…",
                remedy=_RETRAIN,
            )
        if width != self.width:
            raise BadModelFile(f"the acceptance head reads {self.width} values, the model gives {width}")


def write_acceptance_head(path: Path, head: AcceptanceHead) -> None:
    """Write a head to a safetensors file, all at once. Raises ConfigError if the file cannot be written."""
    facts = {
        "edge": head.edge,
        "cloud": head.cloud,
        "rejected_weight": repr(head.rejected_weight),
        "facts": json.dumps(dict(head.facts)),
    }
    _FILE.write(path, head.tensors, facts)


def read_acceptance_head(path: Path) -> AcceptanceHead:
    """Read a head.

    Raises:
        ModelNotFound: no such file.
        BadModelFile: not an acceptance head, tensors missing, of shapes that do not fit, or not finite.
        MissingExtra: safetensors is not installed.
    """
    facts, tensors = _FILE.read(path)
    with _FILE.refusing(path):
        weight = float(facts["rejected_weight"])
        if not 1e-3 <= weight <= 1e3:
            raise ValueError(f"rejected tokens weighed {weight}")
        return AcceptanceHead(tensors, facts["edge"], facts["cloud"], weight, json.loads(facts.get("facts", "{}")))


def _fault(tensors: Mapping[str, FloatArray]) -> str | None:
    """What is wrong with a head's tensors."""
    blocks = sum(name.startswith("blocks.") for name in tensors) // 2
    narrow = len(tensors["project.bias"]) if "project.bias" in tensors and tensors["project.bias"].ndim == 1 else 0
    width = len(tensors["scale"]) if "scale" in tensors and tensors["scale"].ndim == 1 else 0
    if blocks > _MAX_BLOCKS or not narrow or not width:
        return f"has the tensors {', '.join(sorted(tensors)[:8]) or 'none'}"
    shapes: dict[str, tuple[int, ...]] = {
        "scale": (width,),
        "project.weight": (narrow, width + FEATURES),
        "project.bias": (narrow,),
        "out.weight": (narrow + FEATURES,),
        "out.bias": (1,),
    }
    for number in range(blocks):
        shapes |= {f"blocks.{number}.weight": (narrow, narrow), f"blocks.{number}.bias": (narrow,)}
    if {name: values.shape for name, values in tensors.items()} != shapes:
        return "has tensors of shapes that do not fit"
    if any(values.dtype != np.float32 or not np.isfinite(values).all() for values in tensors.values()):
        return "holds numbers that are not finite, or not float32"
    return None


def _logistic(values: NDArray[Any]) -> FloatArray:
    """As a tanh, which cannot overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * values), np.float32)
