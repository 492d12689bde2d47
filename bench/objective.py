"""Service objectives: what an answer must hold, and the rate of sessions up to which nearly all do."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from updraft.errors import ConfigError

from .figures import percentile

__all__ = ["Objective", "Seen", "Trial", "carried", "crossing", "interval"]

_RESAMPLES: Final = 200


@dataclass(frozen=True, slots=True)
class Seen:
    """A session as its reader saw it.

    Attributes:
        asked_s: when it was asked, seconds since the trial's start.
        arrivals: when each token came, seconds since it was asked.
        refused_s: after how long the cloud shed it; None if it was answered.
        same: the text was the recorded one.
    """

    asked_s: float
    arrivals: tuple[float, ...]
    refused_s: float | None = None
    same: bool = True

    @property
    def answered(self) -> bool:
        return self.refused_s is None and bool(self.arrivals)

    @property
    def first_s(self) -> float:
        """Time to the first token."""
        return self.arrivals[0]

    @property
    def token_s(self) -> float:
        """Time between tokens: the mean after the first one (tokens of one verdict come together)."""
        return (self.arrivals[-1] - self.arrivals[0]) / max(1, len(self.arrivals) - 1)

    @property
    def pause_s(self) -> float:
        """Longest time between two tokens."""
        return max((after - before for before, after in pairwise(self.arrivals)), default=0.0)


@dataclass(frozen=True, slots=True)
class Objective:
    """What an answer must hold, and which share of them.

    Attributes:
        first_s: time to the first token, at most.
        token_s: mean time between tokens, at most.
        pause_s: longest time between two tokens, at most.
        share: of the sessions that hold all three.
    """

    first_s: float
    token_s: float
    pause_s: float
    share: float = 0.95

    def __post_init__(self) -> None:
        if min(self.first_s, self.token_s, self.pause_s) <= 0.0 or not 0.0 < self.share < 1.0:
            raise ConfigError("A service objective has times above 0 and a share between 0 and 1.")

    def holds(self, seen: Seen) -> bool:
        return (
            seen.answered
            and seen.first_s <= self.first_s
            and seen.token_s <= self.token_s
            and seen.pause_s <= self.pause_s
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """Sessions of one mode under one load.

    Attributes:
        rate: of the load: sessions asked for a second, or sessions at once.
        seconds: that sessions were asked for.
    """

    mode: str
    rate: float
    seconds: float
    seen: tuple[Seen, ...]

    def share(self, objective: Objective) -> float:
        """Of the sessions that hold the objective."""
        return sum(map(objective.holds, self.seen)) / max(1, len(self.seen))

    def row(self, objective: Objective) -> dict[str, Any]:
        answered = [seen for seen in self.seen if seen.answered]
        ended_s = max((seen.asked_s + seen.arrivals[-1] for seen in answered), default=self.seconds)
        busy_s = max(ended_s, self.seconds)
        held = sum(map(objective.holds, self.seen))
        refused = [seen.refused_s for seen in self.seen if seen.refused_s is not None]
        return {
            "mode": self.mode,
            "rate": self.rate,
            "sessions": len(self.seen),
            "held": held / max(1, len(self.seen)),
            "goodput": held / self.seconds,
            "answers_per_second": len(answered) / busy_s,
            "tokens_per_second": sum(len(seen.arrivals) for seen in answered) / busy_s,
            "concurrent": sum(seen.arrivals[-1] for seen in answered) / busy_s,
            "refused": len(refused),
            "refused_after_max_s": max(refused, default=0.0),
            "wrong": sum(not seen.same for seen in self.seen),
            **_percentiles("first", [seen.first_s for seen in answered]),
            **_percentiles("token", [seen.token_s for seen in answered]),
            **_percentiles("pause", [seen.pause_s for seen in answered]),
        }


def carried(trials: Sequence[Trial], objective: Objective) -> float:
    """Sessions a second up to which the objective's share is held: where the share, which may only fall with the rate,
    goes below it, between the rates of the trials; 0 if it is never held, the last rate if always."""
    rates = sorted({trial.rate for trial in trials})
    shares, least = [], 1.0
    for rate in rates:
        seen = [seen for trial in trials if trial.rate == rate for seen in trial.seen]
        least = min(least, sum(map(objective.holds, seen)) / max(1, len(seen)))
        shares.append(least)
    if not rates or shares[0] < objective.share:
        return 0.0
    for (low, high), (above, below) in zip(pairwise(rates), pairwise(shares), strict=True):
        if below < objective.share:
            return low + (high - low) * (above - objective.share) / (above - below)
    return rates[-1]


def crossing(trials: Sequence[Trial], objective: Objective) -> float:
    """Sessions at once up to which the objective's share of them gets its tokens in time: where that percentile of the
    time between tokens, which may only rise with the sessions, passes the objective between those of the trials."""
    loads = sorted({trial.rate for trial in trials})
    times, most = [], 0.0
    for load in loads:
        seen = [seen for trial in trials if trial.rate == load for seen in trial.seen]
        answered = [one.token_s for one in seen if one.answered]
        late = len(answered) < len(seen) or not answered
        most = max(most, math.inf if late else percentile(answered, objective.share))
        times.append(most)
    if not loads or times[0] > objective.token_s:
        return 0.0
    for (low, high), (before, after) in zip(pairwise(loads), pairwise(times), strict=True):
        if after > objective.token_s:
            part = (objective.token_s - before) / (after - before) if math.isfinite(after) else 0.0
            return low + (high - low) * part
    return loads[-1]


def interval(
    measure: Callable[[Sequence[Trial], Objective], float],
    first: Sequence[Trial],
    second: Sequence[Trial],
    objective: Objective,
    *,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """95 % intervals of what `measure` says of either and of the ratio, with the sessions of each trial drawn anew."""
    chance = random.Random(seed)
    found = [
        (measure(_redrawn(first, chance), objective), measure(_redrawn(second, chance), objective))
        for _ in range(_RESAMPLES)
    ]
    return {
        "first": _between([left for left, _ in found]),
        "second": _between([right for _, right in found]),
        "ratio": _between([left / right for left, right in found if right > 0.0]),
    }


def _redrawn(trials: Sequence[Trial], chance: random.Random) -> list[Trial]:
    return [
        Trial(trial.mode, trial.rate, trial.seconds, tuple(chance.choices(trial.seen, k=len(trial.seen))))
        for trial in trials
    ]


def _between(values: Sequence[float]) -> tuple[float, float]:
    return percentile(values, 0.025), percentile(values, 0.975)


def _percentiles(name: str, seconds: Sequence[float]) -> dict[str, float]:
    return {f"{name}_p{round(100 * share)}_ms": 1e3 * percentile(seconds, share) for share in (0.5, 0.95, 0.99)}
