"""The rows of `updraft bench capacity`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from .objective import Objective, Trial, interval

__all__ = ["AT_ONCE", "CARRIED", "OVERLOAD", "carried_row"]

CARRIED: Final = {
    "load": ("load", ""),
    "unit": ("carried in", ""),
    "cloud": ("cloud (baseline)", ".1f"),
    "cloud_between": ("95 %", ""),
    "draft": ("draft", ".1f"),
    "draft_between": ("95 %", ""),
    "ratio": ("draft / cloud", ".3f"),
    "ratio_between": ("95 %", ""),
}
AT_ONCE: Final = {
    "load": ("sessions", "d"),
    "mode": ("mode", ""),
    "sessions": ("answers", "d"),
    "tokens_per_second": ("tok/s", ".1f"),
    "token_p50_ms": ("token p50 ms", ".0f"),
    "token_p95_ms": ("p95", ".0f"),
    "predicted_p50_ms": ("simulated p50", ".0f"),
    "predicted_p95_ms": ("p95", ".0f"),
    "first_p50_ms": ("first p50 ms", ".0f"),
    "first_p95_ms": ("p95", ".0f"),
    "pause_p99_ms": ("pause p99 ms", ".0f"),
    "wrong": ("other text", "d"),
}
OVERLOAD: Final = {
    "times": ("x carried", ".2f"),
    "mode": ("mode", ""),
    "sessions": ("asked", "d"),
    "held": ("held", ".0%"),
    "goodput": ("goodput /s", ".2f"),
    "answers_per_second": ("answers/s", ".2f"),
    "concurrent": ("at once", ".1f"),
    "refused": ("shed", "d"),
    "refused_after_max_s": ("after s at most", ".1f"),
    "first_p50_ms": ("first p50 ms", ".0f"),
    "first_p95_ms": ("p95", ".0f"),
    "first_p99_ms": ("p99", ".0f"),
    "token_p50_ms": ("token p50 ms", ".0f"),
    "token_p95_ms": ("p95", ".0f"),
    "wrong": ("other text", "d"),
}


def carried_row(
    load: str,
    unit: str,
    measure: Callable[[Sequence[Trial], Objective], float],
    trials: dict[str, list[Trial]],
    objective: Objective,
    *,
    scale: float = 1.0,
) -> dict[str, Any]:
    """What mode draft and mode cloud carry, each and the ratio with its interval."""
    draft, cloud = trials["draft"], trials["cloud"]
    between = interval(measure, draft, cloud, objective)
    carried = {"draft": measure(draft, objective), "cloud": measure(cloud, objective)}
    return {
        "load": load,
        "unit": unit,
        "cloud": scale * carried["cloud"],
        "cloud_between": _text(between["second"], scale),
        "draft": scale * carried["draft"],
        "draft_between": _text(between["first"], scale),
        "ratio": carried["draft"] / carried["cloud"] if carried["cloud"] else None,
        "ratio_between": _text(between["ratio"], 1.0),
    }


def _text(between: tuple[float, float], scale: float) -> str:
    return f"{scale * between[0]:.3g} to {scale * between[1]:.3g}"
