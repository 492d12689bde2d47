"""Which experts will be needed: by the layer below, by looking ahead, by the tokens, and by knowing the future."""

from __future__ import annotations

from typing import Final

import numpy as np

from updraft.engine.experts import MoeShape
from updraft_cloud.experts.policies.base import Floats, Forecast, Ints, Look

__all__ = ["Affinity", "LookAhead", "Oracle", "Recorded", "TokenTable", "any_of", "forecast_of"]

_FAINTEST: Final = 0.05
"""Chances below this are left out: no gate is that low."""


def forecast_of(chances: Floats, first_key: int, experts: int) -> Forecast:
    """From chances of consecutive keys, whole layers; earlier layers are more urgent, then higher chances."""
    places = np.nonzero(chances >= _FAINTEST)[0]
    own = chances[places]
    order = np.lexsort((-own, places // experts))
    return Forecast(places[order] + first_key, own[order])


def any_of(chances: Floats) -> Floats:
    """1 - prod over tokens of (1 - p): the chance that any token needs an expert, from shape (tokens, n) to (n,)."""
    found: Floats = (1.0 - np.prod(1.0 - np.clip(chances, 0.0, 1.0), axis=0)).astype(np.float32)
    return found


class Affinity:
    """From what a layer chose to the next: A_l[i, j] = P(layer l + 1 chooses j | layer l chose i) (ExFlow, IPDPS 2024).

    Counted while it runs, so it needs no training; `prior` choices as the layer's own frequencies soften small counts.
    """

    def __init__(self, shape: MoeShape, prior: float = 4.0) -> None:
        self._shape, self._prior = shape, prior
        self._pairs = np.zeros((shape.layers, shape.experts, shape.experts), np.float32)
        self._seen = np.zeros((shape.layers, shape.experts), np.float32)
        self._below: Ints | None = None

    @property
    def pairs(self) -> Floats:
        """How often layer l + 1 chose j where layer l chose i, shape (layers - 1, experts, experts)."""
        return self._pairs[:-1]

    def expect(self, tokens: Ints) -> Forecast | None:
        return None

    def begin(self, tokens: Ints) -> Forecast | None:
        self._below = None
        return None

    def routed(self, layer: int, chosen: Ints, look: Look) -> Forecast | None:
        if self._below is not None:
            np.add.at(self._pairs[layer - 1], (self._below[:, :, None], chosen[:, None, :]), 1.0)
        np.add.at(self._seen[layer], chosen.ravel(), 1.0)
        self._below = chosen
        if layer + 1 == self._shape.layers:
            return None
        return forecast_of(any_of(self._next(layer, chosen)), (layer + 1) * self._shape.experts, self._shape.experts)

    def end(self) -> None:
        return None

    def _next(self, layer: int, chosen: Ints) -> Floats:
        """Chance of each expert of the next layer for each token, shape (tokens, experts): mean over its choices."""
        own = self._seen[layer + 1]
        usual = own * (self._shape.active / max(float(own.sum()), 1.0))
        pairs = self._pairs[layer][chosen] + self._prior * usual
        counts = self._seen[layer][chosen] + self._prior
        found: Floats = (pairs / counts[:, :, None]).mean(1)
        return found


class LookAhead:
    """Applies the next layer's router to the states that this layer sees (mixtral-offloading, arXiv 2312.17238).

    Its chance is how often that was right, measured layer by layer while it runs.
    """

    def __init__(self, shape: MoeShape) -> None:
        self._shape = shape
        self._right = np.full(shape.layers, 1.0)
        self._tried = np.full(shape.layers, 2.0)
        self._foretold: Ints | None = None

    def expect(self, tokens: Ints) -> Forecast | None:
        return None

    def begin(self, tokens: Ints) -> Forecast | None:
        self._foretold = None
        return None

    def routed(self, layer: int, chosen: Ints, look: Look) -> Forecast | None:
        if self._foretold is not None:
            hits = (self._foretold[:, :, None] == chosen[:, None, :]).any(2)
            self._tried[layer] = 0.99 * self._tried[layer] + hits.size
            self._right[layer] = 0.99 * self._right[layer] + float(hits.sum())
        ahead = self._foretold = look() if layer + 1 < self._shape.layers else None
        if ahead is None:
            return None
        keys, counts = np.unique(ahead, return_counts=True)
        wrong = 1.0 - self._right[layer + 1] / self._tried[layer + 1]
        chances = (1.0 - wrong**counts).astype(np.float32)
        order = np.argsort(-chances, kind="stable")
        return Forecast(keys[order].astype(np.int64) + (layer + 1) * self._shape.experts, chances[order])

    def end(self) -> None:
        return None


class TokenTable:
    """From the tokens alone, for all layers before the first: P(expert | layer, token), counted while it runs.

    An edge's draft says which tokens come, so prefetches begin before the pass does. A token seen n times counts
    n / (n + prior), the layer's own frequencies the rest (Witten, Bell). Rows beyond `max_bytes` are not kept.
    """

    def __init__(self, shape: MoeShape, prior: float = 1.0, max_bytes: int = 64 << 20) -> None:
        self._shape, self._prior = shape, prior
        self._keys = shape.layers * shape.experts
        self._most = max(1, max_bytes // (4 * self._keys))
        self._rows: dict[int, int] = {}  # from 1 on; row 0 stays empty, for all other tokens
        self._counts = np.zeros((16, self._keys), np.float32)
        self._seen = np.zeros(16, np.float32)
        self._usual = np.zeros(self._keys, np.float32)
        self._total = 0.0
        self._pass: Ints = np.empty(0, np.int64)
        self._chosen: list[Ints] = []

    def expect(self, tokens: Ints) -> Forecast | None:
        return self._forecast(tokens)

    def begin(self, tokens: Ints) -> Forecast | None:
        self._pass, self._chosen = tokens, []
        return self._forecast(tokens)

    def routed(self, layer: int, chosen: Ints, look: Look) -> Forecast | None:
        self._chosen.append(chosen.astype(np.int64) + layer * self._shape.experts)
        return None

    def end(self) -> None:
        if len(self._chosen) == self._shape.layers:
            self._learn(np.concatenate(self._chosen, axis=1))
        self._chosen = []

    def chances(self, tokens: Ints) -> Floats:
        """Chance of each expert for each token, shape (tokens, layers x experts); zeros before anything was learned."""
        usual = self._usual * (self._prior / max(self._total, 1.0))
        rows = np.array([self._rows.get(token, 0) for token in tokens.tolist()], np.int64)
        found: Floats = (self._counts[rows] + usual) / (self._seen[rows] + self._prior)[:, None]
        return found

    def _forecast(self, tokens: Ints) -> Forecast | None:
        if not self._total or not len(tokens):
            return None
        return forecast_of(any_of(self.chances(tokens)), 0, self._shape.experts)

    def _learn(self, keys: Ints) -> None:
        """From a pass's keys, shape (tokens, layers x active)."""
        np.add.at(self._usual, keys.ravel(), 1.0)
        self._total += len(keys)
        for token, own in zip(self._pass.tolist(), keys, strict=True):
            row = self._rows.get(token)
            if row is None:
                if len(self._rows) == self._most:
                    continue
                row = self._rows[token] = len(self._rows) + 1
                self._grow(row + 1)
            self._counts[row, own] += 1.0
            self._seen[row] += 1.0

    def _grow(self, rows: int) -> None:
        if rows > len(self._seen):
            more = min(2 * len(self._seen), max(self._most + 1, rows)) - len(self._seen)
            self._counts = np.concatenate([self._counts, np.zeros((more, self._keys), np.float32)])
            self._seen = np.concatenate([self._seen, np.zeros(more, np.float32)])


class Oracle:
    """Foretells the next `window` experts in the order of their use, from a trace."""

    def __init__(self, events: list[Ints], shape: MoeShape, window: int) -> None:
        starts = np.concatenate([[0], np.cumsum([len(keys) for keys in events])])
        self._starts: list[int] = starts.tolist()
        self._all = np.concatenate(events)
        self._layers, self._window = shape.layers, window
        self._pass = -1

    def expect(self, tokens: Ints) -> Forecast | None:
        return None

    def begin(self, tokens: Ints) -> Forecast | None:
        self._pass += 1
        return self._from(self._pass * self._layers)

    def routed(self, layer: int, chosen: Ints, look: Look) -> Forecast | None:
        return self._from(self._pass * self._layers + layer + 1)

    def end(self) -> None:
        return None

    def _from(self, event: int) -> Forecast:
        start = self._starts[event]
        coming = self._all[start : start + self._window]
        keys, first = np.unique(coming, return_index=True)
        order = np.argsort(first)
        return Forecast(keys[order], np.ones(len(keys), np.float32))


class Recorded:
    """Another's forecasts, made once for a trace and replayed at several budgets; it says the same at each."""

    def __init__(self, forecasts: list[Forecast | None]) -> None:
        self._forecasts = forecasts
        self._next = 0

    def expect(self, tokens: Ints) -> Forecast | None:
        return self._take()

    def begin(self, tokens: Ints) -> Forecast | None:
        return self._take()

    def routed(self, layer: int, chosen: Ints, look: Look) -> Forecast | None:
        return self._take()

    def end(self) -> None:
        return None

    def _take(self) -> Forecast | None:
        self._next += 1
        return self._forecasts[self._next - 1]
