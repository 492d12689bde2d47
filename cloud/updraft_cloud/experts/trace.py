"""Routing traces: which experts each token of a run chose, in a safetensors file.

| tensor | type, shape | what it is |
|---|---|---|
| `tokens` | int32 (rows,) | token id of each computed position, passes one after the other |
| `sequences` | int32 (rows,) | sequence that the position belongs to |
| `positions` | int32 (rows,) | its place in that sequence |
| `kinds` | uint8 (rows,) | 0 written by the model, 1 drafted, 2 of a prompt |
| `accepted` | uint8 (rows,) | 0 the draft was rejected, 1 it stood, 2 not a draft, or not known |
| `passes` | int64 (passes + 1,) | rows at which passes begin, from 0 to the number of rows |
| `routes` | uint8, or int16 from 257 experts on, (rows, layers, active) | experts chosen, best first, none twice |
| `weights` | float16 (rows, layers, active) | what the router weighted them with |
| `ahead` | as `routes`; may be left out | what a layer's router chooses for the states that the layer below it saw |

The metadata hold `format`, `model`, `fingerprint`, `shape` (a JSON object with the fields of `MoeShape`) and `note`
(any JSON object). Layer 0 of `ahead` repeats `routes`, for nothing is below the first layer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from updraft.engine.experts import MoeShape
from updraft.errors import BadModelFile
from updraft.tensor_file import TensorFile

__all__ = ["FORMAT", "Accepted", "RouteTrace", "RowKind", "read_trace", "write_trace"]

FORMAT: Final = "updraft-routes-1"
_LIMITS: Final = {"layers": 1024, "experts": 4096, "active": 64, "width": 1 << 20, "hidden": 1 << 20}
_REMEDY: Final = "Record the trace again with `updraft experts trace`."
_FILE: Final = TensorFile("routing trace", FORMAT, 16 << 30, _REMEDY, "torch")

Ints = NDArray[Any]


class RowKind(IntEnum):
    """Where the token of a row came from."""

    WRITTEN = 0
    DRAFTED = 1
    PROMPT = 2


class Accepted(IntEnum):
    """What became of a drafted token."""

    NO = 0
    YES = 1
    UNKNOWN = 2


@dataclass(frozen=True, eq=False)
class RouteTrace:
    """A run's routes; the module says what each array holds.

    Raises BadModelFile where arrays do not fit each other or hold what cannot be.
    """

    shape: MoeShape
    tokens: Ints
    sequences: Ints
    positions: Ints
    kinds: Ints
    accepted: Ints
    passes: Ints
    routes: Ints
    weights: NDArray[np.float16]
    ahead: Ints | None = None
    model: str = ""
    fingerprint: str = ""
    note: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fault = _fault(self)
        if fault:
            raise BadModelFile(f"a routing trace {fault}", remedy=_REMEDY)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def pass_count(self) -> int:
        return len(self.passes) - 1

    @cached_property
    def row_passes(self) -> NDArray[np.int64]:
        """Pass of each row, shape (rows,)."""
        return np.repeat(np.arange(self.pass_count), np.diff(self.passes))

    def taken(self, rows: NDArray[np.int64], passes: NDArray[np.int64]) -> RouteTrace:
        """The trace of these rows, in this order, cut into passes at `passes`."""
        own = {name: getattr(self, name)[rows] for name in _ROWS}
        ahead = None if self.ahead is None else self.ahead[rows]
        return replace(self, passes=passes, ahead=ahead, **own)

    def part(self, first: int, last: int) -> RouteTrace:
        """Passes `first` to `last` (exclusive)."""
        start, stop = int(self.passes[first]), int(self.passes[last])
        return self.taken(np.arange(start, stop), self.passes[first : last + 1] - start)


_ROWS: Final = ("tokens", "sequences", "positions", "kinds", "accepted", "routes", "weights")


def write_trace(path: Path, trace: RouteTrace) -> None:
    """Write a trace, all at once. Raises ConfigError where the file cannot be written."""
    arrays = {name: getattr(trace, name) for name in (*_ROWS, "passes")}
    if trace.ahead is not None:
        arrays["ahead"] = trace.ahead
    facts = {
        "model": trace.model,
        "fingerprint": trace.fingerprint,
        "shape": json.dumps(asdict(trace.shape)),
        "note": json.dumps(dict(trace.note)),
    }
    _FILE.write(path, arrays, facts)


def read_trace(path: Path) -> RouteTrace:
    """Read a trace.

    Raises:
        ModelNotFound: no such file.
        BadModelFile: it is damaged, or no routing trace; the message says what is wrong.
        MissingExtra: safetensors is not installed.
    """
    facts, arrays = _FILE.read(path)
    with _FILE.refusing(path):
        unknown = sorted(arrays.keys() - {*_ROWS, "passes", "ahead"})
        missing = sorted({*_ROWS, "passes"} - arrays.keys())
        if unknown or missing:
            raise ValueError(
                f"tensors {', '.join(missing) or 'none'} are missing, {', '.join(unknown) or 'none'} are unknown"
            )
        note = json.loads(facts.get("note", "{}"))
        if not isinstance(note, dict):
            raise ValueError("its note is no JSON object")
        named: dict[str, Any] = arrays | {"model": facts.get("model", ""), "fingerprint": facts.get("fingerprint", "")}
        return RouteTrace(_shape(facts.get("shape", "")), **named, note=note)


def _shape(text: str) -> MoeShape:
    given = json.loads(text)
    names = {part.name for part in fields(MoeShape)}
    if not isinstance(given, dict) or given.keys() != names:
        raise ValueError(f"its shape must be an object of {', '.join(sorted(names))}")
    if any(type(value) is not int or value < 1 for value in given.values()):
        raise ValueError("its shape holds what is no count")
    return MoeShape(**given)


def _fault(trace: RouteTrace) -> str | None:
    """What is wrong with a trace's arrays; the shape is checked first, for it bounds the rest."""
    shape = trace.shape
    for name, limit in _LIMITS.items():
        if not 1 <= getattr(shape, name) <= limit:
            return f"has {getattr(shape, name)} {name}; 1 to {limit} are possible"
    if shape.active > shape.experts:
        return f"chooses {shape.active} of {shape.experts} experts"
    rows = len(trace.tokens) if trace.tokens.ndim == 1 else 0
    if not rows:
        return "has no rows"
    return _types(trace, rows) or _passes(trace.passes, rows) or _ranges(trace)


def _types(trace: RouteTrace, rows: int) -> str | None:
    shape = trace.shape
    route_type = np.uint8 if shape.experts <= 256 else np.int16
    wide = (rows, shape.layers, shape.active)
    wanted: dict[str, tuple[type, tuple[int, ...]]] = {
        **dict.fromkeys(("tokens", "sequences", "positions"), (np.int32, (rows,))),
        **dict.fromkeys(("kinds", "accepted"), (np.uint8, (rows,))),
        "routes": (route_type, wide),
        "weights": (np.float16, wide),
    }
    if trace.ahead is not None:
        wanted["ahead"] = (route_type, wide)
    for name, (kind, size) in wanted.items():
        array = getattr(trace, name)
        if array.dtype != kind or array.shape != size:
            return f"has {name} of {array.dtype} {array.shape}; {np.dtype(kind)} {size} is needed"
    return None


def _passes(passes: Ints, rows: int) -> str | None:
    if passes.dtype != np.int64 or passes.ndim != 1 or len(passes) < 2:
        return f"has passes of {passes.dtype} {passes.shape}; int64 of at least two is needed"
    if passes[0] != 0 or passes[-1] != rows or (np.diff(passes) < 1).any():
        return f"has passes that do not rise from 0 to {rows} rows"
    return None


def _ranges(trace: RouteTrace) -> str | None:
    for name in ("tokens", "sequences", "positions"):
        if getattr(trace, name).min() < 0:
            return f"has {name} below 0"
    for name, most in (("kinds", max(RowKind)), ("accepted", max(Accepted))):
        if getattr(trace, name).max() > most:
            return f"has {name} above {int(most)}"
    for name in ("routes", "ahead"):
        array = getattr(trace, name)
        if array is None:
            continue
        ordered = np.sort(array, axis=-1)
        if ordered.min() < 0 or ordered.max() >= trace.shape.experts:
            return f"has {name} outside 0 to {trace.shape.experts - 1}"
        if (ordered[..., 1:] == ordered[..., :-1]).any():
            return f"has {name} that choose an expert twice"
    return None if np.isfinite(trace.weights).all() else "has weights that are not finite"
