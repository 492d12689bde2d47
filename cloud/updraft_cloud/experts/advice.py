"""From simulations to a recommendation: the smallest budget, and a policy, with which a goal is met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from updraft.errors import ConfigError, GoalUnreachable
from updraft_cloud.experts.policies.registry import POLICIES

__all__ = ["DEFAULT_SHARES", "Advice", "advise"]

DEFAULT_SHARES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Advice:
    """What is recommended: the row of the simulation, and whether it loses to plain LRU."""

    row: dict[str, Any]
    reason: str


def advise(
    rows: Sequence[dict[str, Any]], *, stall_share: float | None = None, device_bytes: int | None = None
) -> Advice:
    """The smallest budget that stalls at most so much, or the fastest policy that fits so many bytes.

    Args:
        rows: of `rows_of`; what knows the future is left out.

    Raises:
        ConfigError: not exactly one goal is given.
        GoalUnreachable: no budget that was simulated meets it.
    """
    if (stall_share is None) == (device_bytes is None):
        raise ConfigError("Give one goal: a share of the time that is stalled, or bytes on the device.")
    real = [row for row in rows if row["policy"] in POLICIES]
    if device_bytes is not None:
        fitting = [row for row in real if row["device_bytes"] <= device_bytes]
        if not fitting:
            least = min(row["device_bytes"] for row in real)
            raise GoalUnreachable(
                f"The smallest budget that was simulated takes {least} bytes, not {device_bytes}.",
                remedy="Name smaller budgets with --budget, or allow more bytes.",
            )
        best = min(fitting, key=_order)
        return Advice(best, f"the fastest within {device_bytes} bytes")
    calm = [row for row in real if row["stall_share"] <= (stall_share or 0.0)]
    if not calm:
        nearest = min(real, key=lambda row: float(row["stall_share"]))
        raise GoalUnreachable(
            f"No budget that was simulated stalls at most {stall_share:.1%} of the time; the nearest is "
            f"{nearest['policy']} with {nearest['budget_share']:.0%} of the experts: {nearest['stall_share']:.1%}.",
            remedy="Allow more stalls, or let the host compute, too, with --host-us.",
        )
    least = min(row["slots"] for row in calm)
    best = min((row for row in calm if row["slots"] == least), key=_order)
    return Advice(best, f"the smallest budget that stalls at most {stall_share:.1%} of the time")


def _order(row: dict[str, Any]) -> tuple[float, int, int]:
    """Fastest first; among equals what moves least, then what is simplest."""
    return round(float(row["seconds"]), 9), int(row["loads"]), list(POLICIES).index(row["policy"])
