"""The trained routing-path predictor: from tokens to the experts of all layers (ExpertFlow, arXiv 2410.17954).

Two embeddings (of a token and of the one before it in the pass), one hidden layer, and a logistic output for every
expert. It is trained with torch (`predictor_training`) and applied with numpy, in microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np

from updraft.engine.experts import MoeShape
from updraft.errors import BadModelFile, ConfigError, MissingExtra, ModelNotFound, WrongTrunk
from updraft.exits.files import replace_file
from updraft_cloud.experts.policies.base import Floats, Forecast, Ints, Look
from updraft_cloud.experts.policies.forecast import any_of, forecast_of

__all__ = ["TENSORS", "Predictor", "PredictorForecast", "read_predictor", "write_predictor"]

_FORMAT: Final = "updraft-route-predictor-1"
_MAX_BYTES: Final = 1 << 30
_REMEDY: Final = "Train it again with `updraft experts train`."

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
    from safetensors.numpy import save

    facts = {
        "format": _FORMAT,
        "shape": json.dumps(asdict(predictor.shape)),
        "fingerprint": predictor.fingerprint,
        "facts": json.dumps(dict(predictor.facts)),
    }
    arrays = {name: np.ascontiguousarray(values) for name, values in predictor.tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, save(arrays, facts))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


def read_predictor(path: Path) -> Predictor:
    """Read a predictor.

    Raises:
        ModelNotFound: no such file.
        BadModelFile: it is damaged, or no route predictor.
        MissingExtra: safetensors is not installed.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{path} is a safetensors file, and safetensors is not installed",
            remedy='Install it with `pip install "updraft-llm[torch]"`.',
        ) from error

    def refuse(reason: str) -> NoReturn:
        raise BadModelFile(f"{path} is not a route predictor: {reason}", remedy=_REMEDY)

    if not path.is_file():
        raise ModelNotFound(f"there is no route predictor at {path}", remedy=_REMEDY)
    if path.stat().st_size > _MAX_BYTES:
        refuse(f"it is larger than {_MAX_BYTES} bytes")
    try:
        with safe_open(path, framework="np") as opened:
            facts = opened.metadata() or {}
            tensors = {name: np.asarray(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118
        if facts.get("format") != _FORMAT:
            refuse(f"its format is {facts.get('format')!r}, not {_FORMAT!r}")
        shape = MoeShape(**json.loads(facts["shape"]))
        return Predictor(shape, tensors, facts.get("fingerprint", ""), json.loads(facts.get("facts", "{}")))
    except BadModelFile as error:
        refuse(error.message)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        refuse(str(error))


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
