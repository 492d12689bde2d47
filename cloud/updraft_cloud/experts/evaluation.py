"""Many policies at many budgets over one trace, with what knowing the future would give beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from updraft.engine.experts import MoeShape
from updraft.errors import ConfigError
from updraft_cloud.experts.costs import Costs
from updraft_cloud.experts.policies.base import Forecast
from updraft_cloud.experts.policies.forecast import Recorded
from updraft_cloud.experts.policies.registry import (
    CLAIRVOYANT,
    DEFAULT_GATE,
    POLICIES,
    clairvoyant,
    make_forecaster,
    make_policy,
)
from updraft_cloud.experts.predictor import Predictor
from updraft_cloud.experts.replay import Replay
from updraft_cloud.experts.simulate import Simulated, simulate

__all__ = ["BASELINE", "Sweep", "least_seconds", "least_slots", "names_of", "rows_of", "slots_of", "sweep"]

BASELINE: Final = "lru"


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is simulated.

    Attributes:
        policies: of `POLICIES` and `CLAIRVOYANT`; all that the trace allows when empty.
        shares: budgets as shares of all experts, above 0 to 1.
    """

    policies: tuple[str, ...] = ()
    shares: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 0.9)
    gate: float = DEFAULT_GATE

    def __post_init__(self) -> None:
        if not self.shares or not all(0.0 < share <= 1.0 for share in self.shares):
            raise ConfigError(f"budgets are {self.shares}; give shares above 0 and at most 1")


def least_slots(shape: MoeShape) -> int:
    """Fewest slots with which a store works: one token's experts of one layer."""
    return shape.active


def slots_of(shape: MoeShape, share: float) -> int:
    """Slots that are a share of all experts, at least the fewest with which a store works."""
    return max(least_slots(shape), round(share * shape.layers * shape.experts))


def sweep(
    replay: Replay,
    costs: Costs,
    wanted: Sweep = Sweep(),
    *,
    predictor: Predictor | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Simulated]:
    """Every policy at every budget; the baseline `lru` and the bound `belady` are always among them.

    Forecasters see the trace once and their forecasts are replayed at every budget, for a budget changes none of them.

    Raises:
        UnknownName: there is no such policy.
        ConfigError: a policy needs a predictor that is not given.
    """
    names = names_of(replay, wanted, predictor)
    forecasts: dict[str, list[Forecast | None]] = {}
    for name in names:
        kind = POLICIES[name].forecast if name in POLICIES else None
        if kind is not None and kind not in forecasts:
            forecasts[kind] = replay.forecasts(make_forecaster(kind, replay.shape, predictor))
    found = []
    for share in wanted.shares:
        slots = slots_of(replay.shape, share)
        for name in names:
            if name in CLAIRVOYANT:
                policy = clairvoyant(name, replay, slots)
            else:
                own = POLICIES[name].forecast
                recorded = Recorded(forecasts[own]) if own else None
                policy = make_policy(name, replay.shape, slots, gate=wanted.gate, forecaster=recorded)
            found.append(simulate(replay, policy, slots, costs))
            progress(f"{name} at {share:.0%}")
    return found


def names_of(replay: Replay, wanted: Sweep, predictor: Predictor | None) -> list[str]:
    """Policies of a sweep, in the order of tables."""
    every = [*POLICIES, *CLAIRVOYANT]
    if wanted.policies:
        for name in wanted.policies:
            if name not in every:
                make_policy(name, replay.shape, 1)  # raises, and says which there are
        return [name for name in every if name in {*wanted.policies, BASELINE, "belady"}]
    absent = {"look-ahead"} if replay.trace.ahead is None else set()
    absent |= {"trained"} if predictor is None else set()
    return [name for name in every if name in CLAIRVOYANT or POLICIES[name].forecast not in absent]


def rows_of(results: Sequence[Simulated], shape: MoeShape) -> list[dict[str, Any]]:
    """Records of a sweep; each beside the baseline and the bound of its budget."""
    rows = []
    for one in results:
        same = {other.policy: other for other in results if other.slots == one.slots}
        baseline, bound = same[BASELINE], same["belady"]
        loads = one.statistics.loaded
        rows.append(
            {
                "budget_share": one.slots / (shape.layers * shape.experts),
                **one.row(),
                "time_vs_lru": one.seconds / baseline.seconds,
                "loads_vs_lru": loads / max(1, baseline.statistics.loaded),
                "loads_vs_belady": loads / max(1, bound.statistics.loaded),
                "least_seconds": least_seconds(one, bound.statistics.loaded),
            }
        )
    return rows


def least_seconds(one: Simulated, loads: int) -> float:
    """No policy that computes on the device can be faster: it computes all, and moves at least what Belady does."""
    return max(one.compute_s, loads * one.copy_s)
