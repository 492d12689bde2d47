"""What each arm is expected to bring before anything was learned: the defaults of `auto`.

The same formula as the reward's, on figures that the methods' own arithmetic gives. With e the edge's time for a token,
c the cloud's for a pass, r the round trip, a the agreement, n the answer's length and m = (1 - a^7) / (1 - a) the
tokens that a verdict on 6 drafted ones brings (Leviathan et al., arXiv 2211.17192, equation 1):

| arm       | quality               | seconds a token            | cloud passes a token |
|-----------|-----------------------|----------------------------|----------------------|
| edge      | a                     | e                          | 0                    |
| cloud     | 1                     | c + r / n                  | 1                    |
| draft     | 1                     | (4 e + 3 c + r) / m        | 1 / m                |
| lookup    | 1                     | (2 c + r) / 1.5            | 1 / 1.5              |
| cascade t | 1 - t (1 - a) / 2     | as draft, a + t (1 - a) for a                     |
| span      | s + (1 - s) a         | (1 - s) e + s c + r / 20   | s = 1 / (1 + threshold^2) |
| route     | (1 + a) / 2           | (e + c) / 2 + r / 2n       | 1/2                  |
| reason    | (1 + a) / 2           | e + c / 2 + r / 20         | 1/3                  |
| exit      | (1 + a) / 2           | (e + c + r) / 2            | 1/2                  |

Without a cloud there is only the edge. So on a fast link `draft` is expected to be best for balanced and quality goals,
on a far one `edge`, `cloud` or few hand-overs, and `edge` or few hand-overs where cost counts.
"""

from __future__ import annotations

import math
from typing import Final

from updraft.auto.arms import Arm
from updraft.auto.context import Situation
from updraft.auto.reward import Goal, Outcome, reward
from updraft.modes import Mode

__all__ = ["UNKNOWN_ROUND_TRIP_S", "expected_reward"]

UNKNOWN_ROUND_TRIP_S: Final = 0.04
_DRAFTED: Final = 6
_STANDARD: Final = 100_000  # tokens of the imagined answer: shares come out as counts


def expected_reward(arm: Arm, situation: Situation, goal: Goal) -> float:
    """From 0 to 1, finite."""
    quality, seconds, passes = _figures(arm, situation)
    lost = max(0.0, 1.0 - quality) / max(1e-9, 1.0 - _agreement(situation))  # share of tokens that nobody verified
    unverified = round(_STANDARD * min(1.0, lost))
    imagined = Outcome(
        tokens=_STANDARD,
        seconds=_STANDARD * seconds,
        unverified=unverified,
        probability=_agreement(situation),
        tolerated=0,
        cloud_tokens=0,
        cloud_passes=round(_STANDARD * min(1.0, passes)),
        degraded=False,
    )
    return reward(imagined, situation, goal)


def _agreement(situation: Situation) -> float:
    known = situation.agreement
    return min(0.99, max(0.01, known)) if math.isfinite(known) else 0.7


def _figures(arm: Arm, situation: Situation) -> tuple[float, float, float]:
    """Quality, seconds a token and cloud passes a token; see the module."""
    e, c, a = max(situation.edge_s, 1e-6), max(situation.cloud_s, 1e-6), _agreement(situation)
    trip = situation.round_trip_s
    r = UNKNOWN_ROUND_TRIP_S if trip is None or not math.isfinite(trip) else max(0.0, trip)
    n = max(8, min(situation.tokens, 256))
    match arm.mode:
        case Mode.EDGE:
            return a, e, 0.0
        case Mode.CLOUD:
            return 1.0, c + r / n, 1.0
        case Mode.LOOKUP:
            return 1.0, (2 * c + r) / 1.5, 1 / 1.5
        case Mode.CASCADE:
            tolerance = float(arm.patch["acceptance"]["alpha"])
            _, seconds, passes = _drafting(e, c, r, a + tolerance * (1 - a))
            return 1.0 - tolerance * (1 - a) / 2, seconds, passes
        case Mode.SPAN:
            share = 1.0 / (1.0 + float(arm.patch["span"]["escalate"]) ** 2)
            return share + (1 - share) * a, (1 - share) * e + share * c + r / 20, share
        case Mode.ROUTE:
            return (1 + a) / 2, (e + c) / 2 + r / (2 * n), 0.5
        case Mode.REASON:
            return (1 + a) / 2, e + c / 2 + r / 20, 1 / 3
        case Mode.EXIT:
            return (1 + a) / 2, (e + c + r) / 2, 0.5
        case _:
            return _drafting(e, c, r, a)


def _drafting(e: float, c: float, r: float, a: float) -> tuple[float, float, float]:
    a = min(0.99, a)
    tokens = (1 - a ** (_DRAFTED + 1)) / (1 - a)
    return 1.0, (4 * e + 3 * c + r) / tokens, 1 / tokens
