"""Records the routes of a run: stands between a model and whoever holds its experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from updraft.engine.experts import Experts, ExpertSource, MoeShape
from updraft.errors import InvalidRequest
from updraft_cloud.experts.trace import Accepted, RouteTrace, RowKind

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RecordedRun", "RouteRecorder"]


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run of the next pass, which the recorder cannot see by itself: runs in the order of the pass's tokens.

    Attributes:
        position: of its first token.
        kinds: of each of its tokens.
    """

    sequence: int
    position: int
    kinds: Sequence[RowKind]


class RouteRecorder:
    """Passes everything on to `inner` and keeps tokens, routes and weights of passes that succeeded.

    Args:
        source: also record what each layer's router makes of the states that the layer below it sees; one router more
            a layer. None to leave that out.

    Attributes:
        paused: keep nothing of passes that end now.
    """

    def __init__(self, inner: Experts, shape: MoeShape, source: ExpertSource | None = None) -> None:
        self._inner, self._shape, self._source = inner, shape, source
        self.paused = False
        self._runs: list[RecordedRun] = []
        self._tokens: NDArray[Any] = np.empty(0, np.int32)
        self._layers: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._ahead: list[NDArray[Any]] = []
        self._passes: list[dict[str, NDArray[Any]]] = []

    def describe(self, runs: Sequence[RecordedRun]) -> None:
        """What the runs of the next pass are. Without it a pass is tokens of one sequence, written one by one."""
        self._runs = list(runs)

    def judged(self, sequence: int, stood: int) -> None:
        """Of a sequence's last run that many drafted tokens stood."""
        for own in reversed(self._passes):
            drafted = np.nonzero((own["sequences"] == sequence) & (own["kinds"] == RowKind.DRAFTED))[0]
            if len(drafted):
                own["accepted"][drafted] = Accepted.NO
                own["accepted"][drafted[:stood]] = Accepted.YES
                return

    def trace(self, *, model: str, fingerprint: str, note: Mapping[str, Any] | None = None) -> RouteTrace:
        """What was recorded. Raises InvalidRequest if that is nothing."""
        if not self._passes:
            raise InvalidRequest("no pass was recorded", remedy="Let the model compute something first.")
        lengths = [len(own["tokens"]) for own in self._passes]
        columns = {name: np.concatenate([own[name] for own in self._passes]) for name in self._passes[0]}
        passes = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return RouteTrace(self._shape, passes=passes, model=model, fingerprint=fingerprint, note=note or {}, **columns)

    def expect(self, tokens: Sequence[int]) -> None:
        self._inner.expect(tokens)

    def begin(self, tokens: Tensor, first: int = 0) -> None:
        self._tokens = tokens.detach().cpu().numpy().astype(np.int32)
        self._layers, self._ahead = [], []
        self._inner.begin(tokens, first)

    def compute(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        result = self._inner.compute(layer, hidden, chosen, weights)
        self._layers.append((chosen.detach().cpu().numpy(), weights.detach().float().cpu().numpy()))
        if self._source is not None:
            ahead = layer + 1 < self._shape.layers
            ids = self._source.route(layer + 1, hidden)[0].cpu().numpy() if ahead else None
            self._ahead += [self._layers[0][0]] if layer == 0 else []
            self._ahead += [] if ids is None else [ids]
        return result

    def end(self) -> None:
        self._inner.end()
        if len(self._layers) == self._shape.layers and not self.paused:
            self._keep()
        self._runs, self._layers = [], []

    def close(self) -> None:
        self._inner.close()

    def _keep(self) -> None:
        rows = len(self._tokens)
        runs = self._runs or [RecordedRun(0, self._next_position(), [RowKind.WRITTEN] * rows)]
        if sum(len(run.kinds) for run in runs) != rows:
            raise InvalidRequest(f"a pass of {rows} tokens was described as {sum(len(r.kinds) for r in runs)}")
        kind = np.uint8 if self._shape.experts <= 256 else np.int16
        own = {
            "tokens": self._tokens,
            "sequences": np.concatenate([np.full(len(run.kinds), run.sequence) for run in runs]).astype(np.int32),
            "positions": np.concatenate([run.position + np.arange(len(run.kinds)) for run in runs]).astype(np.int32),
            "kinds": np.concatenate([np.array(run.kinds) for run in runs]).astype(np.uint8),
            "accepted": np.full(rows, Accepted.UNKNOWN, np.uint8),
            "routes": np.stack([chosen for chosen, _ in self._layers], axis=1).astype(kind),
            "weights": np.stack([weights for _, weights in self._layers], axis=1).astype(np.float16),
        }
        if self._source is not None:
            own["ahead"] = np.stack(self._ahead, axis=1).astype(kind)
        self._passes.append(own)

    def _next_position(self) -> int:
        own = self._passes[-1] if self._passes else None
        return 0 if own is None else int(own["positions"][-1]) + 1
