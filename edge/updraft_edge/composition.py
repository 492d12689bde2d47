"""A composition: one choice for every seam, for one answer; and how it goes on when the cloud is away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from updraft.errors import CloudUnavailable, UpdraftError, Withheld
from updraft.generation import GenerationRequest
from updraft.modes import Mode, ModeSettings
from updraft.sampling import Sampled, SamplingParams
from updraft_edge.answer import Answer
from updraft_edge.cloud_session import CloudSession
from updraft_edge.drafters import NoDrafter
from updraft_edge.endpoint.session import EndpointSession
from updraft_edge.lookup.drafter import LookupDrafter
from updraft_edge.policies.plain import Never
from updraft_edge.seams import Branching, CloudSide, Drafter, EscalationPolicy, StopRule, Yielding
from updraft_edge.solving.session import SolveSession
from updraft_edge.stopping.costs import Costs
from updraft_edge.stopping.rules import WhileReady
from updraft_edge.tree import Branches

__all__ = ["Composition", "Order", "Parts", "Session", "fails"]


Session = CloudSession | EndpointSession | SolveSession

_LATE: Final = frozenset({Mode.ROUTE, Mode.SOLVE})


@dataclass(slots=True)
class Composition:
    """Drafter, stop rule, policy and session of one answer; `alone` makes a drafter that needs no cloud."""

    mode: Mode
    settings: ModeSettings
    seed: int
    drafter: Drafter
    stop: StopRule
    policy: EscalationPolicy
    costs: Costs
    session: Session | None
    alone: Callable[[Order], Drafter]
    request: GenerationRequest
    sampling: SamplingParams

    @property
    def cloud(self) -> CloudSession:
        """The session that a decision to ask for a verdict needs."""
        if not isinstance(self.session, CloudSession):
            raise RuntimeError(f"mode {self.mode} asks for a verdict without a session of our own protocol")
        return self.session

    @property
    def writer(self) -> CloudSide:
        """Who writes on when the edge hands over."""
        if self.session is None:
            raise RuntimeError(f"mode {self.mode} hands over without a session")
        return self.session

    def begin(self, answer: Answer) -> None:
        """Begin the session, if the mode has one and the cloud is there.

        Raises Withheld where the prompt must not leave the device and the request is to fail for it.
        """
        if self.session is None:
            return
        try:
            if self.session.away:
                raise CloudUnavailable("The cloud has been away; the breaker is open.")
            if self.mode not in _LATE:  # the prompt stays here unless the score or the vote sends it
                self.session.prepare()
        except (CloudUnavailable, Withheld) as error:
            if fails(error, answer):
                raise
            self.degrade(answer, error)

    @property
    def drafts(self) -> bool:
        """There is a drafter whose proposals are wanted now."""
        yields = isinstance(self.policy, Yielding) and self.policy.yields()
        return not yields and not isinstance(self.drafter, NoDrafter)

    def branches(self, run: Sequence[Sampled]) -> Branches:
        """Other ways than a run that is put to the cloud, where the drafter knows any that pay."""
        found = self.drafter.branches(run) if isinstance(self.drafter, Branching) else ()
        return [(branch.shared, [sampled.token for sampled in branch.tokens]) for branch in found]

    def degrade(self, answer: Answer, error: UpdraftError) -> None:
        """From here on the edge writes alone, and the answer says so."""
        if isinstance(error, Withheld):
            answer.withheld = error.rule
        else:
            answer.degraded = error.code
        if self.session is not None:
            self.session.abandon()
        if isinstance(self.drafter, NoDrafter | LookupDrafter):
            self.drafter.close()
            order = Order(self.settings, self.request, self.sampling, answer, None)
            self.drafter = self.alone(order)
        self.drafter.alone()
        self.policy, self.stop = Never(), WhileReady(self.drafter.available)
        self.drafter.hold(False)

    async def close(self) -> None:
        self.drafter.close()
        if self.session is not None:
            await self.session.close()


def fails(error: UpdraftError, answer: Answer) -> bool:
    """Whether the request fails with what keeps the cloud from helping; otherwise the edge goes on alone."""
    if isinstance(error, Withheld):
        return error.final
    return not error.retryable and not answer.log.generated_length


@dataclass(frozen=True, slots=True)
class Order:
    """What one answer's composition is made from; `session` is None where the edge writes alone."""

    settings: ModeSettings
    request: GenerationRequest
    sampling: SamplingParams
    answer: Answer
    session: Session | None


Parts = tuple[Drafter, StopRule, EscalationPolicy]
