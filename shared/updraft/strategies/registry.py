"""The strategies by name."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError

from updraft.composition.strategy import Composed
from updraft.errors import InvalidRequest, UnknownName
from updraft.strategies.a_star import AStar
from updraft.strategies.adaptive import Adaptive
from updraft.strategies.base import Strategy
from updraft.strategies.beam_search import BeamSearch
from updraft.strategies.best_of_n import BestOfN
from updraft.strategies.choice import ComputeOptimal
from updraft.strategies.fusion import Fusion
from updraft.strategies.particle_filtering import ParticleFiltering
from updraft.strategies.particle_gibbs import ParticleGibbs
from updraft.strategies.resample import Resample
from updraft.strategies.rpc import RPC
from updraft.strategies.self_consistency import SelfConsistency
from updraft.strategies.self_refine import SelfRefine

__all__ = ["STRATEGIES", "parse_strategy"]

_KINDS: Final[tuple[type[Strategy], ...]] = (
    SelfConsistency,
    RPC,
    BestOfN,
    Resample,
    Adaptive,
    ParticleFiltering,
    ParticleGibbs,
    AStar,
    BeamSearch,
    SelfRefine,
    Fusion,
    ComputeOptimal,
    Composed,
)
STRATEGIES: Final[dict[str, type[Strategy]]] = {kind.name: kind for kind in _KINDS}


def parse_strategy(name: str, settings: dict[str, Any] | None = None) -> Strategy:
    """A strategy by its name, with its settings.

    Raises:
        UnknownName: there is none of this name.
        InvalidRequest: a setting is unknown or out of range.
    """
    kind = STRATEGIES.get(name)
    if kind is None:
        known = ", ".join(STRATEGIES)
        raise UnknownName(f"There is no strategy {name!r}; there is: {known}.", param="strategy")
    try:
        return kind.model_validate(settings or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["strategy", *map(str, first["loc"])])
        raise InvalidRequest(f"{where}: {first['msg']}.", param=where) from error
