"""Routing traces that look like those of real mixture-of-experts models, without a model.

Each layer prefers some experts (Zipf), tokens have favourites, and what a token chose in one layer says something about
the next (inter-layer affinity); how much each of the three counts can be set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.engine.experts import MoeShape
from updraft_cloud.experts.trace import Accepted, RouteTrace, RowKind

__all__ = ["Routing", "make_trace"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Routing:
    """What a made-up model and its traffic are like.

    Attributes:
        skew: exponent of the Zipf law of experts in a layer; 0 is uniform.
        token: weight of a token's own favourites in the logits.
        affinity: weight of what the last layer's first choice favours.
        noise: scale of Gumbel noise; where it is 0 the token decides alone.
        ahead: share of a layer's choices that looking ahead from the layer below gets right.
        sessions: that take turns; `together` of them share a pass.
        draft: tokens of a run; 1 is writing token by token.
        acceptance: probability that a drafted token stands.
    """

    layers: int = 8
    experts: int = 32
    active: int = 4
    vocabulary: int = 2000
    skew: float = 0.6
    token: float = 2.0
    affinity: float = 1.0
    noise: float = 0.7
    ahead: float = 0.85
    sessions: int = 4
    together: int = 2
    draft: int = 4
    acceptance: float = 0.75

    @property
    def shape(self) -> MoeShape:
        return MoeShape(self.layers, self.experts, self.active, 64, 128, 3 * 64 * 128 * 4)


def make_trace(rows: int, routing: Routing = Routing(), *, seed: int = 0) -> RouteTrace:
    """A trace of at least `rows` rows and at most one pass more."""
    random = np.random.default_rng(seed)
    columns = _traffic(rows, routing, random)
    tokens = columns["tokens"]
    routes, logits = _routes(tokens, routing, np.random.default_rng(routing.vocabulary), random)
    chosen = np.take_along_axis(logits, routes, axis=-1)
    weights = np.exp(chosen - chosen.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    kind = np.uint8 if routing.experts <= 256 else np.int16
    ahead = _looked_ahead(routes, routing, random)
    return RouteTrace(
        routing.shape,
        **columns,
        routes=routes.astype(kind),
        weights=weights.astype(np.float16),
        ahead=ahead.astype(kind),
        model="made up",
        note={"seed": seed},
    )


def _traffic(rows: int, routing: Routing, random: np.random.Generator) -> dict[str, Any]:
    """Sessions take turns; of a run's tokens a first part stands and the rest is drafted anew."""
    popularity = 1.0 / np.arange(1, routing.vocabulary + 1)
    popularity /= popularity.sum()
    lengths = np.zeros(routing.sessions, np.int64)
    found: dict[str, list[Any]] = {name: [] for name in ("tokens", "sequences", "positions", "kinds", "accepted")}
    passes, turn = [0], 0
    while passes[-1] < rows:
        for session in (np.arange(turn, turn + routing.together) % routing.sessions).tolist():
            stood = min(int(random.geometric(1 - routing.acceptance)) - 1, routing.draft - 1)
            place = np.arange(routing.draft)
            found["tokens"].append(random.choice(routing.vocabulary, routing.draft, p=popularity))
            found["sequences"].append(np.full(routing.draft, session))
            found["positions"].append(lengths[session] + place)
            found["kinds"].append(np.where(place == 0, RowKind.WRITTEN, RowKind.DRAFTED))
            judged = np.where(place <= stood, Accepted.YES, Accepted.NO)
            found["accepted"].append(np.where(place == 0, Accepted.UNKNOWN, judged))
            lengths[session] += stood + 1
        turn += routing.together
        passes.append(passes[-1] + routing.together * routing.draft)
    types = {"kinds": np.uint8, "accepted": np.uint8}
    columns = {name: np.concatenate(parts).astype(types.get(name, np.int32)) for name, parts in found.items()}
    return columns | {"passes": np.array(passes, np.int64)}


def _routes(
    tokens: NDArray[Any], routing: Routing, model: np.random.Generator, random: np.random.Generator
) -> tuple[NDArray[np.int64], Floats]:
    """Choices, shape (rows, layers, active), and logits; `model` draws what belongs to the model, not to the run."""
    layers, experts = routing.layers, routing.experts
    rank = np.stack([model.permutation(experts) for _ in range(layers)])
    base = -routing.skew * np.log1p(rank)
    likes = model.normal(size=(routing.vocabulary, layers, experts))
    follows = model.normal(size=(layers, experts, experts))
    logits = base + routing.token * likes[tokens] + routing.noise * random.gumbel(size=(len(tokens), layers, experts))
    routes = np.empty((len(tokens), layers, routing.active), np.int64)
    for layer in range(layers):
        if layer:
            logits[:, layer] += routing.affinity * follows[layer][routes[:, layer - 1, 0]]
        routes[:, layer] = np.argsort(-logits[:, layer], axis=-1)[:, : routing.active]
    return routes, logits


def _looked_ahead(routes: NDArray[np.int64], routing: Routing, random: np.random.Generator) -> NDArray[np.int64]:
    """The routes, with the last choice of a position another expert where looking ahead was wrong."""
    ahead = routes.copy()
    wrong = random.random(routes.shape[:2]) >= routing.ahead**routing.active
    wrong[:, 0] = False
    for row, layer in zip(*np.nonzero(wrong), strict=True):
        others = np.setdiff1d(np.arange(routing.experts), ahead[row, layer])
        if len(others):
            ahead[row, layer, -1] = random.choice(others)
    return ahead
