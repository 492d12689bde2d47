"""The trained routing-path predictor: from tokens to the experts of all layers (ExpertFlow, arXiv 2410.17954).

Two embeddings (of a token and of the one before it in the pass), one hidden layer, and a logistic output for every
expert. It is trained with torch (`predictor_training`) and applied with numpy, in microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from updraft.engine.experts import MoeShape
from updraft.errors import BadModelFile, WrongTrunk
from updraft.tensor_file import TensorFile
from updraft_cloud.experts.policies.base import Floats, Forecast, Ints, Look
from updraft_cloud.experts.policies.forecast import any_of, forecast_of

__all__ = ["TENSORS", "Predictor", "PredictorForecast", "read_predictor", "write_predictor"]

_REMEDY: Final = "Train it again with `updraft experts train`."
_FILE: Final = TensorFile("route predictor", "updraft-route-predictor-1", 1 << 30, _REMEDY, "torch")

TENSORS: Final = ("tokens", "embed", "before", "hidden.weight", "hidden.bias", "out.weight", "out.bias")


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained predictor.

    Attributes:
        tensors: `tokens` int64 (n,), the token ids that have rows of their own, ascending; `embed` and `before`
            (n + 1, d), whose last rows are for all other tokens; `hidden.weight` (h, 2 d), `hidden.bias`,
            `out.weight` (layers x experts, h), `out.bias`; all but the first float32.
        fingerprint: of the model whose routes it learned.
        facts: what the training says of it.
    """

    shape: MoeShape
    tensors: Mapping[str, Any]
    fingerprint: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fault = _fault(self.shape, self.tensors)
        if fault:
            raise BadModelFile(f"a route predictor {fault}", remedy=_REMEDY)

    def __call__(self, tokens: Ints) -> Floats:
        """Chance of each expert for each token of a pass, shape (tokens, layers x experts)."""
        rows = self.rows(tokens)
        other = len(self.tensors["tokens"])
        before = np.concatenate([[other], rows[:-1]])
        read = np.concatenate([self.tensors["embed"][rows], self.tensors["before"][before]], axis=1)
        hidden = np.maximum(read @ self.tensors["hidden.weight"].T + self.tensors["hidden.bias"], 0.0)
        logits = hidden @ self.tensors["out.weight"].T + self.tensors["out.bias"]
        found: Floats = 0.5 + 0.5 * np.tanh(0.5 * logits)
        return found

    def rows(self, tokens: Ints) -> Ints:
        """Rows of the embeddings."""
        known = self.tensors["tokens"]
        places = np.minimum(np.searchsorted(known, tokens), len(known) - 1)
        return np.where(known[places] == tokens, places, len(known))

    def check(self, *, shape: MoeShape, fingerprint: str) -> None:
        """Raises WrongTrunk if it learned the routes of another model."""
        same = (shape.layers, shape.experts) == (self.shape.layers, self.shape.experts)
        if not same or (self.fingerprint and fingerprint != self.fingerprint):
            raise WrongTrunk(
                f"the route predictor was trained for the model {self.fingerprint[:12]}… of {self.shape.layers} layers "
                f"of {self.shape.experts} experts, and this is {fingerprint[:12]}… of {shape.layers} of "
                f"{shape.experts}",
                remedy=_REMEDY,
            )


class PredictorForecast:
    """Forecasts of a trained predictor. Its mistakes are put right by the book: what is missed is loaded before all
    prefetches, and what came in vain goes first."""

    def __init__(self, predictor: Predictor, shape: MoeShape) -> None:
        self._predictor, self._experts = predictor, shape.experts

    def chances(self, tokens: Ints) -> Floats:
        """See `Predictor.__call__`."""
        return self._predictor(tokens)

    def expect(self, tokens: Ints) -> Forecast | None:
        return self.begin(tokens) if len(tokens) else None

    def begin(self, tokens: Ints) -> Forecast | None:
        return forecast_of(any_of(self.chances(tokens)), 0, self._experts)

    def routed(self, layer: int, chosen: Ints, look: Look) -> Forecast | None:
        return None

    def end(self) -> None:
        return None


def write_predictor(path: Path, predictor: Predictor) -> None:
    """Write a predictor to a safetensors file, all at once. Raises ConfigError if the file cannot be written."""
    facts = {
        "shape": json.dumps(asdict(predictor.shape)),
        "fingerprint": predictor.fingerprint,
        "facts": json.dumps(dict(predictor.facts)),
    }
    _FILE.write(path, predictor.tensors, facts)


def read_predictor(path: Path) -> Predictor:
    """Read a predictor.

    Raises:
        ModelNotFound: no such file.
        BadModelFile: it is damaged, or no route predictor.
        MissingExtra: safetensors is not installed.
    """
    facts, tensors = _FILE.read(path)
    with _FILE.refusing(path):
        shape = MoeShape(**json.loads(facts["shape"]))
        return Predictor(shape, tensors, facts.get("fingerprint", ""), json.loads(facts.get("facts", "{}")))


def _fault(shape: MoeShape, tensors: Mapping[str, Any]) -> str | None:
    """What is wrong with a predictor's tensors."""
    if set(tensors) != set(TENSORS) or tensors["embed"].ndim != 2 or tensors["hidden.bias"].ndim != 1:
        return f"has the tensors {', '.join(sorted(tensors)[:8]) or 'none'}"
    known, width, hidden = len(tensors["tokens"]), tensors["embed"].shape[1], len(tensors["hidden.bias"])
    gives = shape.layers * shape.experts
    shapes: dict[str, tuple[int, ...]] = {
        "tokens": (known,),
        "embed": (known + 1, width),
        "before": (known + 1, width),
        "hidden.weight": (hidden, 2 * width),
        "hidden.bias": (hidden,),
        "out.weight": (gives, hidden),
        "out.bias": (gives,),
    }
    if not known or {name: tensors[name].shape for name in TENSORS} != shapes:
        return "has tensors of shapes that do not fit"
    tokens = tensors["tokens"]
    if tokens.dtype != np.int64 or (np.diff(tokens) <= 0).any():
        return "has token ids that do not rise"
    floats = [tensors[name] for name in TENSORS[1:]]
    if any(values.dtype != np.float32 or not np.isfinite(values).all() for values in floats):
        return "holds numbers that are not finite, or not float32"
    return None
