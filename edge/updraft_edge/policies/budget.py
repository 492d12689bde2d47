"""Holds any escalation policy to a budget over a window: a share of tokens, money, or time per token.

The budget is kept twice. A threshold that follows the scores seen lately (their top share, corrected by what has been
spent) makes the share come out close to the budget; and hand-overs are cut or refused so that it is never passed.
"""

from __future__ import annotations

import bisect
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, runtime_checkable
from weakref import ReferenceType, ref

from updraft.generation import Statistics
from updraft.sampling import Sampled
from updraft_edge.answer import Answer
from updraft_edge.seams import Decision, EscalationPolicy, HandOver

__all__ = ["Budgeted", "Ledger", "Meter", "Scored", "TopShare", "money", "tokens_written"]

log = logging.getLogger(__name__)

Meter = Callable[[Statistics], float]
"""What an answer has spent so far, in the budget's unit."""

_RECENT: Final = 256  # scores that the quantile is taken of
_FEW: Final = 16  # with fewer the policy's own threshold decides
ANSWER_TOKENS: Final = 64  # about as many make an answer, where whole answers are handed over
_SMOOTHING: Final = 0.2
_GOAL: Final = 0.97  # part of the budget that is aimed for: at 1 the limit would decide, and not the score
_PROPORTIONAL: Final = 4.0
_INTEGRAL: Final = 4.0


def tokens_written(statistics: Statistics) -> float:
    """Tokens of the cloud: the unit of `budget.share`."""
    return float(statistics.cloud_tokens)


def money(statistics: Statistics) -> float:
    """Money: the unit of `budget.cost`."""
    return statistics.cost


@runtime_checkable
class Scored(Protocol):
    """A policy that compares a score with a threshold; see `ScorePolicy`."""

    threshold: float | None
    latest: float | None


@dataclass(slots=True)
class _Account:
    """An answer under way, as far as the ledger has seen it; `granted` is what a hand-over under way may still get."""

    statistics: Statistics
    owner: ReferenceType[Budgeted]
    tokens: int = 0
    cloud: int = 0
    spent: float = 0.0
    granted: float = 0.0


class Ledger:
    """What the answers of one agent have spent over the last `window` tokens of all of them.

    Args:
        rate: what may be spent per token.
        window: tokens.
        meter: what an answer has spent; None for seconds, edge tokens included.
        unit: what a token of the cloud is thought to cost until one has been measured.
    """

    def __init__(self, rate: float, window: int, meter: Meter | None = tokens_written, *, unit: float = 1.0) -> None:
        self.rate = rate
        self.window = window
        self._meter = meter
        self._unit = unit
        self._base = 0.0  # of an edge token
        self._measured = [False, False]
        self._warned = False
        self._entries: deque[tuple[int, float]] = deque()  # tokens and what they cost, oldest first
        self._tokens = 0
        self._spent = 0.0
        self._accounts: list[_Account] = []

    def open(self, owner: Budgeted, statistics: Statistics) -> _Account:
        """Count an answer from now on, as long as its policy lives."""
        account = _Account(statistics, ref(owner), statistics.tokens, statistics.cloud_tokens)
        account.spent = self._reading(statistics)
        self._accounts.append(account)
        return account

    def sync(self) -> None:
        """Take in what the answers have spent since the last call."""
        for account in list(self._accounts):
            statistics = account.statistics
            tokens, cloud = statistics.tokens - account.tokens, statistics.cloud_tokens - account.cloud
            if tokens > 0:
                reading = self._reading(statistics)
                self.add(tokens, cloud, reading - account.spent)
                account.tokens, account.cloud, account.spent = statistics.tokens, statistics.cloud_tokens, reading
                account.granted = max(0.0, account.granted - cloud)
            if account.owner() is None:  # with this answer's last tokens
                self._accounts.remove(account)

    def add(self, tokens: int, cloud: int, spent: float) -> None:
        """Count tokens, of which the cloud wrote some, and what they cost together."""
        if cloud == 0:
            self._base = self._smoothed(0, self._base, spent / tokens)
            self._warn()
        else:
            self._unit = self._smoothed(1, self._unit, max(0.0, spent - self._base * (tokens - cloud)) / cloud)
        self._entries.append((tokens, spent))
        self._tokens += tokens
        self._spent += spent
        while self._entries and self._tokens - self._entries[0][0] >= self.window:
            gone, cost = self._entries.popleft()
            self._tokens -= gone
            self._spent -= cost

    @property
    def share(self) -> float:
        """The share of cloud-written tokens that just meets the budget, 0 to 1, at what tokens cost now."""
        extra = self._unit - self._base
        if extra <= 0:
            return 1.0  # the cloud is no dearer than the edge
        return min(1.0, max(0.0, (self.rate - self._base) / extra))

    @property
    def tokens(self) -> int:
        """Tokens in the window."""
        return self._tokens

    @property
    def used(self) -> float:
        """Which part of what may be spent on the window's tokens has been; 1 is the whole budget."""
        allowed = (self.rate - self._base) * self._tokens
        extra = self._spent - self._base * self._tokens
        return extra / allowed if allowed > 0 else (math.inf if extra > 0 else 1.0)

    def left(self, least: int) -> float:
        """Tokens that the cloud may write now; while the window fills, at most `least` more than have been earned."""
        extra = self._unit - self._base
        if extra <= 0:
            return math.inf
        spent = self._spent - self._base * self._tokens
        gain = self.rate - self._base
        whole = (gain * self.window - spent) / extra
        earned = (gain * self._tokens - spent) / extra + least
        promised = sum(account.granted for account in self._accounts)
        return max(0.0, min(whole, earned) - promised + 1e-9)

    def _reading(self, statistics: Statistics) -> float:
        return time.perf_counter() if self._meter is None else self._meter(statistics)

    def _warn(self) -> None:
        if self._base > self.rate and not self._warned:
            self._warned = True
            log.warning(
                "a budget of %g a token cannot be met: the edge alone needs %g, and writes alone unless the cloud is "
                "cheaper", self.rate, self._base
            )  # fmt: skip

    def _smoothed(self, which: int, old: float, new: float) -> float:
        if not self._measured[which]:
            self._measured[which] = True
            return new
        return old + _SMOOTHING * (new - old)


class TopShare:
    """The threshold above which a share of recent scores lies; the share is corrected until the budget is met."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []
        self._correction = 0.0

    def note(self, score: float, used: float, window: int) -> None:
        """A score that was compared, when `used` of the budget of a window of tokens was spent."""
        bisect.insort(self._sorted, score)
        self._recent.append(score)
        if len(self._recent) > _RECENT:
            gone = self._recent.popleft()
            del self._sorted[bisect.bisect_left(self._sorted, gone)]
        self._correction += _INTEGRAL / window * (_GOAL - min(used, 2.0))
        self._correction = min(3.0, max(-3.0, self._correction))

    def threshold(self, rate: float, used: float) -> float | None:
        """The score from which on to escalate; None while too few are known."""
        if len(self._sorted) < _FEW:
            return None
        top = rate * math.exp(min(3.0, _PROPORTIONAL * (_GOAL - min(used, 3.0)) + self._correction))
        place = math.ceil(len(self._sorted) * (1.0 - min(1.0, top)))
        return self._sorted[place] if place < len(self._sorted) else math.inf


class Budgeted:
    """A policy within a budget.

    Args:
        policy: decides; where it is `Scored`, its threshold is moved, and never below `floor`.
        floor: the threshold that was asked for, None for none.
        fallback: the threshold until enough scores are known; None escalates nothing until then.
        least: shortest hand-over worth making, tokens.
        cut: hand-overs are cut to what is left; without it whole answers are handed over: one may overdraw the budget,
            but none begins then.
    """

    def __init__(
        self,
        policy: EscalationPolicy,
        ledger: Ledger,
        scores: TopShare,
        answer: Answer,
        *,
        floor: float | None = None,
        fallback: float | None = None,
        least: int = 1,
        cut: bool = True,
    ) -> None:
        self._policy = policy
        self._scored = policy if isinstance(policy, Scored) else None
        self._ledger = ledger
        self._scores = scores
        self._floor = floor
        self._fallback = fallback
        self._least = least
        self._cut = cut
        self._length = float(max(1, least))  # of a hand-over
        self._answer = answer
        self._statistics = answer.statistics
        self._cloud_before: int | None = None
        self._account = ledger.open(self, answer.statistics)
        if self._scored is not None:
            ledger.sync()
            self._scored.threshold = self._threshold(self._rate(), ledger.used)

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        ledger = self._ledger
        ledger.sync()
        self._account.granted = 0.0
        scored = self._scored
        if scored is None:
            return self._within(await self._policy.decide(run))
        rate, used = self._rate(), ledger.used
        scored.threshold = self._threshold(rate, used)
        decision = await self._policy.decide(run)
        if scored.latest is not None and math.isfinite(scored.latest):
            self._scores.note(scored.latest, used, ledger.window if self._cut else ledger.window // ANSWER_TOKENS)
        return self._within(decision)

    def returned(self) -> None:
        if self._cloud_before is not None:
            self._length += _SMOOTHING * (self._statistics.cloud_tokens - self._cloud_before - self._length)
            self._cloud_before = None
        self._policy.returned()

    def _rate(self) -> float:
        """The part of comparisons that should escalate, for hand-overs of the length seen lately."""
        share = self._ledger.share
        if not self._cut:
            return share
        return 1.0 if share >= 1.0 else min(1.0, share / ((1.0 - share) * max(1.0, self._length)))

    def _threshold(self, rate: float, used: float) -> float | None:
        following = self._scores.threshold(rate, used)
        if following is None:
            return self._fallback if self._floor is None else self._floor
        return following if self._floor is None else max(following, self._floor)

    def _within(self, decision: Decision | HandOver) -> Decision | HandOver:
        """The decision, as far as the budget allows it."""
        if decision is Decision.VERIFY:
            return decision if self._ledger.left(self._least) >= 1 else Decision.COMMIT
        if not isinstance(decision, HandOver):
            return decision
        left = self._ledger.left(self._least)
        if left < min(self._least, max(1.0, self._ledger.share * self._ledger.window)):
            return Decision.COMMIT
        self._cloud_before = self._statistics.cloud_tokens
        if math.isinf(left):
            return decision
        if not self._cut:
            self._account.granted = float(self._answer.room)
            return decision
        most = max(1, int(left))
        self._account.granted = float(most)
        return replace(decision, most=most if decision.most is None else min(most, decision.most))
