"""Records the decisions of one answer (`GenerationRequest.trace`).

The recorder stands in for the answer's escalation policy, which it asks in turn, and reads what became of a decision
from the token log and the statistics: the agent's loop knows nothing of it, and answers without a trace pay nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from updraft.generation import Statistics
from updraft.sampling import Sampled
from updraft.traces.steps import DraftedToken, StepKind, Trace, TraceStep
from updraft_edge.answer import Answer
from updraft_edge.composition import Composition
from updraft_edge.seams import Decision, EscalationPolicy, HandOver, Yielding

__all__ = ["MOST_DRAFTED", "TraceRecorder"]

MOST_DRAFTED: Final = 16_384  # about 2 MB of JSON: gRPC messages end at 4 MB
_KINDS: Final[dict[Decision, StepKind]] = {
    Decision.COMMIT: "commit",
    Decision.VERIFY: "verify",
    Decision.ACCEPT: "accept",
}


@dataclass(slots=True)
class _Asked:
    """A decision whose outcome is not known yet."""

    position: int
    run: list[Sampled]
    before: Statistics
    asked_s: float
    kind: StepKind = "degraded"  # stays where the policy asked a cloud that was away


class TraceRecorder:
    """Watches one answer.

    Args:
        edge, cloud: names of the models.
    """

    def __init__(self, answer: Answer, composition: Composition, *, edge: str | None, cloud: str | None) -> None:
        self._answer = answer
        self._names = edge, cloud
        self._settings = composition.settings
        self._policy: EscalationPolicy = composition.policy
        self._steps: list[TraceStep] = []
        self._asked: _Asked | None = None
        self._drafted = 0
        self._cut = False
        composition.policy = self

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        self._settle()
        answer = self._answer
        asked = _Asked(answer.log.generated_length, list(run), replace(answer.statistics), self._now())
        self._asked = asked
        decision = await self._policy.decide(run)
        asked.kind = _kind(decision, len(run))
        return decision

    def yields(self) -> bool:
        return isinstance(self._policy, Yielding) and self._policy.yields()

    def returned(self) -> None:
        self._policy.returned()

    def finish(self) -> Trace:
        """Everything, once the answer has ended."""
        self._settle()
        done = self._steps[-1].position + self._steps[-1].committed if self._steps else 0
        length = self._answer.log.generated_length
        if length > done and not self._cut:  # `Composition.degrade` put another policy in this one's place
            now = self._now()
            began = self._steps[-1].asked_s + self._steps[-1].took_s if self._steps else 0.0
            self._steps.append(TraceStep(done, "alone", [], 0, length - done, began, max(0.0, now - began)))
        edge, cloud = self._names
        return Trace(edge, cloud, self._settings.model_dump(mode="json"), self._steps, self._cut)

    def _settle(self) -> None:
        """What the last decision came to is in the log now."""
        asked, self._asked = self._asked, None
        if asked is None or self._cut:
            return
        self._drafted += len(asked.run)
        if self._drafted > MOST_DRAFTED:
            self._cut = True
            return
        self._steps.append(self._outcome(asked))

    def _outcome(self, asked: _Asked) -> TraceStep:
        answer, before = self._answer, asked.before
        now, after = self._now(), answer.statistics
        committed = answer.log.generated[asked.position :]
        stood = 0
        while stood < min(len(committed), len(asked.run)) and committed[stood] == asked.run[stood].token:
            stood += 1
        degraded = answer.degraded is not None  # nothing is asked after that: it was this step
        return TraceStep(
            position=asked.position,
            kind="degraded" if degraded else asked.kind,
            drafted=[self._token(sampled) for sampled in asked.run],
            stood=stood,
            committed=min(len(committed), stood) if degraded else len(committed),
            asked_s=asked.asked_s,
            took_s=now - asked.asked_s,
            waited_ms=1e3 * (after.waited_seconds - before.waited_seconds),
            bytes_up=after.bytes_up - before.bytes_up,
            bytes_down=after.bytes_down - before.bytes_down,
            cloud_passes=after.cloud_passes - before.cloud_passes,
            cloud_positions=after.cloud_positions - before.cloud_positions,
        )

    def _token(self, sampled: Sampled) -> DraftedToken:
        distribution = sampled.distribution
        return DraftedToken(
            sampled.token,
            self._answer.shown(sampled.token),
            _finite(sampled.logprob),
            _finite(distribution.entropy),
            _finite(distribution.top_probability),
        )

    def _now(self) -> float:
        return time.perf_counter() - self._answer.started


def _kind(decision: Decision | HandOver, drafted: int) -> StepKind:
    if isinstance(decision, HandOver):
        return "give_up" if drafted and decision.keep is not None and decision.keep < drafted else "hand_over"
    return _KINDS[decision]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
