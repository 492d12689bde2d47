"""Policies by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from updraft.engine.experts import MoeShape
from updraft.errors import ConfigError, UnknownName
from updraft_cloud.experts.policies.base import Forecaster, NoForecast, Policy, Replacement
from updraft_cloud.experts.policies.forecast import Affinity, LookAhead, Oracle, TokenTable
from updraft_cloud.experts.policies.replacement import (
    NEVER,
    Clairvoyant,
    Expected,
    Frequency,
    LayerRecency,
    LayerSlots,
    Recency,
    next_uses,
)
from updraft_cloud.experts.predictor import Predictor, PredictorForecast
from updraft_cloud.experts.replay import Replay

__all__ = ["CLAIRVOYANT", "DEFAULT_GATE", "POLICIES", "PolicyKind", "clairvoyant", "make_forecaster", "make_policy"]

DEFAULT_GATE: Final = 0.5
_NO_PREFETCH: Final = 2.0  # a gate that no chance passes


@dataclass(frozen=True, slots=True)
class PolicyKind:
    """A policy that can be had by name.

    Attributes:
        does: what it does, for people.
        replacement: made from shape and slots.
        forecast: name of its forecaster; None loads on demand alone.
        prefetches: whether what is foretold comes ahead; else a forecast only tells what to keep.
    """

    does: str
    replacement: Callable[[MoeShape, int], Replacement]
    forecast: str | None = None
    prefetches: bool = True


POLICIES: Final[dict[str, PolicyKind]] = {
    "lru": PolicyKind("least recently used, over all layers", lambda shape, slots: Recency(shape)),
    "lru-layer": PolicyKind("least recently used, each layer with its share of slots", LayerRecency),
    "lfu": PolicyKind("least frequently used, old uses fade", lambda shape, slots: Frequency(shape)),
    "layers": PolicyKind("slots by what each layer needs; early layers lend theirs to later ones", LayerSlots),
    "expected": PolicyKind("evicts what is expected to be used last", lambda shape, slots: Expected(shape)),
    "lru-look-ahead": PolicyKind(
        "lru-layer, and the next layer's router applied one layer early", LayerRecency, "look-ahead"
    ),
    "affinity": PolicyKind(
        "expected, and what follows a layer's choices", lambda shape, slots: Expected(shape), "affinity"
    ),
    "look-ahead": PolicyKind(
        "expected, and the next layer's router applied one layer early",
        lambda shape, slots: Expected(shape),
        "look-ahead",
    ),
    "draft": PolicyKind(
        "expected, and what the tokens of drafts and prompts chose before",
        lambda shape, slots: Expected(shape),
        "tokens",
    ),
    "draft-keep": PolicyKind(
        "as draft, but nothing comes ahead: it only tells what to keep",
        lambda shape, slots: Expected(shape),
        "tokens",
        prefetches=False,
    ),
    "layers-draft": PolicyKind("layers, and what the tokens chose before", LayerSlots, "tokens"),
    "trained": PolicyKind(
        "expected, and a trained predictor's routing path", lambda shape, slots: Expected(shape), "trained"
    ),
    "layers-trained": PolicyKind("layers, and a trained predictor's routing path (ExpertFlow)", LayerSlots, "trained"),
}
"""What can run; the order is that of tables."""

CLAIRVOYANT: Final = {
    "belady": "knows the future, loads on demand: nothing that computes on the device moves less",
    "oracle": "knows the future, prefetches in the order of use (Cao et al., 1995)",
}
"""What only a simulation can follow."""


def make_forecaster(name: str | None, shape: MoeShape, predictor: Predictor | None = None) -> Forecaster:
    """A forecaster by the name that `PolicyKind.forecast` has. Raises ConfigError if it needs a predictor."""
    if name is None:
        return NoForecast()
    if name == "affinity":
        return Affinity(shape)
    if name == "look-ahead":
        return LookAhead(shape)
    if name == "tokens":
        return TokenTable(shape)
    if predictor is None:
        raise ConfigError(
            "This policy needs a trained predictor.",
            remedy="Train one with `updraft experts train` and name its file.",
        )
    return PredictorForecast(predictor, shape)


def make_policy(
    name: str,
    shape: MoeShape,
    slots: int,
    *,
    gate: float = DEFAULT_GATE,
    predictor: Predictor | None = None,
    forecaster: Forecaster | None = None,
) -> Policy:
    """A fresh policy by name.

    Args:
        gate: chance from which on an expert is prefetched.
        forecaster: in place of the policy's own, such as one recorded before.

    Raises:
        UnknownName: there is no such policy.
        ConfigError: it needs a predictor.
    """
    kind = POLICIES.get(name)
    if kind is None:
        raise UnknownName(f"There is no expert policy {name!r}.", remedy=f"Policies are {', '.join(POLICIES)}.")
    own = forecaster or make_forecaster(kind.forecast, shape, predictor)
    return Policy(name, kind.replacement(shape, slots), own, gate if kind.prefetches else _NO_PREFETCH)


def clairvoyant(name: str, replay: Replay, slots: int) -> Policy:
    """A policy of `CLAIRVOYANT` for a trace."""
    first = np.full(replay.keys, NEVER, np.int64)
    for number in range(len(replay.events) - 1, -1, -1):
        first[replay.events[number]] = number
    replacement = Clairvoyant(next_uses(replay.events, replay.keys), first)
    forecaster = NoForecast() if name == "belady" else Oracle(replay.events, replay.shape, slots)
    return Policy(name, replacement, forecaster)
