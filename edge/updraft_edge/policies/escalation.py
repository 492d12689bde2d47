"""What the answers of one agent share for escalating: budgets, recent scores, the router, the log of verdicts."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from updraft.config import EdgeSettings
from updraft.engine.base import ModelInfo
from updraft.errors import ConfigError
from updraft.mode_settings import BudgetSettings
from updraft.modes import Mode, ModeSettings
from updraft.routing.features import FeatureWindow, prompt_features
from updraft.routing.router import Router, find_router, read_router, shipped_routers
from updraft.routing.verdict_log import VerdictLog
from updraft.sampling import Sampled
from updraft_edge.answer import Answer
from updraft_edge.link import CloudLink
from updraft_edge.policies.budget import Budgeted, Ledger, TopShare, money, tokens_written
from updraft_edge.policies.prompt_rows import PromptReadingDrafter
from updraft_edge.policies.scores import DEFAULT_THRESHOLDS, make_score
from updraft_edge.policies.span import ScorePolicy
from updraft_edge.seams import EscalationPolicy, StopRule

__all__ = ["LOGGED_PROMPT_ROWS", "Escalation", "LoggedRule"]

log = logging.getLogger(__name__)

LOGGED_PROMPT_ROWS: Final = 32
_DEFAULT_SHARE: Final = 0.2
_JUDGED: Final = frozenset({Mode.DRAFT, Mode.CASCADE, Mode.SPAN})
_MOST_LEDGERS: Final = 256
ROUTE_WINDOW: Final = 64
"""So many times as many tokens as in mode `span`: an answer is as long as a window there."""

ROUTE_THRESHOLDS: Final[dict[str, float | None]] = {
    "prompt_energy": None,
    "prompt_entropy": None,
    "answer_energy": None,
    "consistency": 0.5,
    "learned": None,
    "random": 1.0 - _DEFAULT_SHARE,
}
"""What stands in for `route.threshold` until enough scores are known; None: the edge answers until then."""


@dataclass(slots=True)
class _Shared:
    """Of all answers with the same settings."""

    scores: TopShare
    ledgers: list[Ledger]


class Escalation:
    """Makes the policies of `span` and `route`.

    Raises:
        ModelNotFound, BadModelFile, WrongTrunk, MissingExtra: `edge.router` cannot be used with this edge model.
        ConfigError: `edge.verdict_log` cannot be written.
    """

    def __init__(self, settings: EdgeSettings, info: ModelInfo, link: CloudLink | None) -> None:
        self._info = info
        self._link = link
        self._prices = settings.prices
        self._shared: OrderedDict[Hashable, _Shared] = OrderedDict()
        self._router: Router | None = None
        if settings.router is not None:
            self._router = read_router(find_router(settings.router))
            self._router.check_pair(info.fingerprint, None)
        self.log = None if settings.verdict_log is None else VerdictLog(settings.verdict_log)

    def close(self) -> None:
        if self.log is not None:
            self.log.close()

    @property
    def edge(self) -> str:
        """The edge model's fingerprint."""
        return self._info.fingerprint

    @property
    def cloud(self) -> str | None:
        """The cloud model's fingerprint, once it is known."""
        described = self._link.cloud if self._link is not None else None
        return described.fingerprint if described is not None else None

    def router(self) -> Router:
        """The configured router, or the one that is shipped for this pair.

        Raises ConfigError where there is none, WrongTrunk where it is for another pair.
        """
        if self._router is None:
            self._router = next((router for router in shipped_routers() if self._fits(router)), None)
        if self._router is None:
            raise ConfigError(
                f"The score learned needs a router, and none is shipped for the edge model {self._info.name} "
                "with this cloud.",
                remedy="Train one with `updraft train router` and name it in edge.router.",
            )
        self._router.check_pair(self._info.fingerprint, self.cloud)
        return self._router

    def _fits(self, router: Router) -> bool:
        return router.edge == self._info.fingerprint and self.cloud in (None, router.cloud)

    def span(self, settings: ModeSettings, answer: Answer, seed: int) -> EscalationPolicy:
        """The policy of the mode `span`, within the budget if there is one."""
        span = settings.span
        fallback = DEFAULT_THRESHOLDS[span.score]
        threshold = fallback if span.escalate is None else span.escalate
        score = make_score(
            span,
            threshold=threshold,
            seed=seed ^ answer.log.hash,
            prompt_length=answer.log.prompt_length,
            router=self.router() if span.score == "learned" else None,
        )
        policy = ScorePolicy(span, score, answer, threshold)
        return self.within(
            settings.budget,
            policy,
            answer,
            key=(span, settings.budget),
            asked=span.escalate,
            fallback=fallback,
            least=span.min_stay,
        )

    def within(
        self,
        budget: BudgetSettings,
        policy: EscalationPolicy,
        answer: Answer,
        *,
        key: Hashable,
        asked: float | None,
        fallback: float | None,
        least: int = 1,
        whole: bool = False,
    ) -> EscalationPolicy:
        """Any policy, held to a budget; as it is where nothing is to be held and its threshold is known.

        Args:
            key: answers with an equal one share what they have spent and the scores that they have seen.
            asked: the threshold that was asked for, if any; the budget may only raise it.
            fallback: the threshold until enough scores are known.
            least: shortest hand-over, tokens.
            whole: whole answers are handed over.
        """
        if asked is None and fallback is None and budget.share is None:
            budget = budget.model_copy(update={"share": _DEFAULT_SHARE})
        shared = self._of(key, budget, whole)
        for ledger in shared.ledgers:
            policy = Budgeted(
                policy,
                ledger,
                shared.scores,
                answer,
                floor=asked,
                fallback=fallback,
                least=1 if whole else least,
                cut=not whole,
            )
        return policy

    def _of(self, key: Hashable, budget: BudgetSettings, whole: bool) -> _Shared:
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = _Shared(TopShare(), self._ledgers(budget, whole))
            if len(self._shared) > _MOST_LEDGERS:
                self._shared.popitem(last=False)
        self._shared.move_to_end(key)
        return shared

    def _ledgers(self, budget: BudgetSettings, whole: bool) -> list[Ledger]:
        """One for each kind of budget; the first one moves the threshold, the others only refuse."""
        window = budget.window * (ROUTE_WINDOW if whole else 1)
        ledgers = []
        if budget.share is not None:
            ledgers.append(Ledger(budget.share, window, tokens_written))
        if budget.cost is not None:
            prices = self._prices
            price = max(prices.cloud_output, prices.endpoint_output) / 1e6
            if price <= 0:
                raise ConfigError(
                    "A budget of money needs to know what the cloud costs.",
                    remedy="Set edge.prices.cloud_output or edge.prices.endpoint_output, or give budget.share.",
                    param="updraft.budget.cost",
                )
            ledgers.append(Ledger(budget.cost / 1000, window, money, unit=price))
        if budget.token_ms is not None:
            ledgers.append(Ledger(budget.token_ms / 1000, window, None, unit=2 * budget.token_ms / 1000))
        return ledgers

    def logged(self, rule: StopRule, answer: Answer, mode: Mode, drafter: object) -> StopRule:
        """The rule, whose verdicts go to the log if there is one and the mode asks for verdicts on the edge's text."""
        if self.log is None or mode not in _JUDGED:
            return rule
        return LoggedRule(rule, self, answer, mode, drafter)


class LoggedRule:
    """A stop rule that writes what it learns to the log of verdicts: features and whether a token stood."""

    def __init__(self, rule: StopRule, escalation: Escalation, answer: Answer, mode: str, drafter: object) -> None:
        self._rule = rule
        self._escalation = escalation
        self._answer = answer
        self._mode = mode
        self._reader = drafter if isinstance(drafter, PromptReadingDrafter) else None
        self._window = FeatureWindow(answer.log.prompt_length)
        self._number: str | None = None

    def ends(self, run: Sequence[Sampled]) -> bool:
        return self._rule.ends(run)

    def learn(self, run: Sequence[Sampled], accepted: int) -> None:
        place = self._answer.log.generated_length
        for number, sampled in enumerate(run[: accepted + 1]):
            if sampled.distribution.margin is not None:  # looked-up tokens have no distribution
                self._note(self._window.note(sampled, place + number), place + number, number < accepted)
        self._rule.learn(run, accepted)

    def _note(self, features: np.ndarray[tuple[int], np.dtype[np.float32]], place: int, stood: bool) -> None:
        verdicts, cloud = self._escalation.log, self._escalation.cloud
        if verdicts is None or cloud is None:
            return
        if self._number is None:
            rows = self._reader.rows if self._reader is not None else ()
            self._number = verdicts.begin(
                edge=self._escalation.edge,
                cloud=cloud,
                mode=self._mode,
                prompt=prompt_features(rows, self._answer.log.prompt_length) if rows else None,
            )
        verdicts.add(self._number, place, stood, features)
