"""The edge's three seams. A mode is one choice for each of them (the fourth, the acceptance rule, is the cloud's)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from updraft.sampling import Sampled
from updraft.solution import ProgressEvent
from updraft_edge import wire

__all__ = [
    "Branch",
    "Branching",
    "CloudSide",
    "Decision",
    "Drafter",
    "EscalationPolicy",
    "HandOver",
    "StepJudge",
    "StopRule",
    "Yielding",
]


class Drafter(Protocol):
    """What could come next? Proposes tokens, running ahead of what has been committed."""

    async def propose(self) -> Sampled | None:
        """The next proposed token after all that were proposed since the last `settle`.

        None leaves the next token to the cloud (early exit, unsure); it is repeated until `settle` brings one.
        Raises EngineFailure or Overloaded if the model cannot go on.
        """
        ...

    def available(self) -> bool:
        """`propose` would return at once."""
        ...

    def settle(self, tokens: Sequence[int]) -> None:
        """These tokens are committed now; proposals that do not follow from them are forgotten."""
        ...

    def hold(self, held: bool) -> None:
        """While held it computes committed tokens but proposes none (the cloud is writing)."""
        ...

    def alone(self) -> None:
        """From now on nothing is left to the cloud: every token is proposed."""
        ...

    def close(self) -> None:
        """Free what it holds. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True)
class Branch:
    """Another way a run may go: `tokens` after its first `shared` ones."""

    shared: int
    tokens: list[Sampled]


@runtime_checkable
class Branching(Protocol):
    """A drafter that knows other ways than its run: together they are a tree, judged in one pass."""

    def branches(self, run: Sequence[Sampled]) -> Sequence[Branch]:
        """Other ways than this run of proposed tokens; none where they do not pay."""
        ...


class StopRule(Protocol):
    """How long a run?"""

    def ends(self, run: Sequence[Sampled]) -> bool:
        """The run (at least one token) is long enough."""
        ...

    def learn(self, run: Sequence[Sampled], accepted: int) -> None:
        """A verdict: of this run, so many tokens stood."""
        ...


class Decision(Enum):
    """What happens to a run."""

    COMMIT = "commit"  # the edge's tokens stand
    VERIFY = "verify"  # the cloud judges them
    ACCEPT = "accept"  # the policy had the cloud look at them, and they stand


@dataclass(frozen=True, slots=True)
class HandOver:
    """The cloud writes on after the run, or after its first `keep` tokens.

    Until its mean entropy over `window` tokens falls to `threshold` (nats), at the earliest after `min_stay` tokens;
    with `step` until the end of a step; to the end of the answer if nothing of this is given. After `most` tokens it
    ends in any case.
    """

    threshold: float | None = None
    window: int = 1
    min_stay: int = 0
    keep: int | None = None
    step: bool = False
    most: int | None = None


class EscalationPolicy(Protocol):
    """May the edge commit alone?"""

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        """What happens to a run; an empty one where nothing is drafted, or the next token is left to the cloud.

        Raises LinkError or Overloaded where it asks the cloud and the cloud is away.
        """
        ...

    def returned(self) -> None:
        """The cloud handed the writing back."""
        ...


@runtime_checkable
class Yielding(Protocol):
    """A policy that hands over without a look at a run where the cloud had better write."""

    def yields(self) -> bool:
        """The cloud should write on at once: nothing need be drafted first."""
        ...


class CloudSide(Protocol):
    """The cloud as one answer sees it: a session of our own protocol, or any endpoint that writes text."""

    @property
    def away(self) -> bool:
        """The cloud failed lately: nobody should wait for it."""
        ...

    def prepare(self) -> None:
        """Begin what can be begun before the first question. Raises Withheld where the prompt must stay here."""
        ...

    def write(self, condition: HandOver) -> AsyncGenerator[wire.Span | ProgressEvent, None]:
        """Spans that the cloud writes until the condition holds; commit each to the log before asking for the next.
        Between them may come what happens on the way.

        Raises LinkError or Overloaded where the cloud is away or late, Withheld where the log must stay here.
        """
        ...

    async def close(self) -> None:
        """End it politely."""
        ...

    def abandon(self) -> None:
        """Drop it without a word."""
        ...


class StepJudge(Protocol):
    """Who says how good a step of an answer is (mode `reason`; SpecReason, arXiv 2504.07891).

    `updraft_edge.rubric.SessionJudge` asks a session of our own protocol. An endpoint that writes text is one, too, if
    it can give the top log-probabilities of one token: it sends the messages of the request, then the answer so far and
    the step after it as the assistant, then `rubric.RUBRIC` as the user; it asks for one token, greedily, with ten or
    more `top_logprobs`, adds up the probabilities of those that are a digit once spaces are cut off, and gives them to
    `rubric.grade`.
    """

    async def score_step(self, step: Sequence[int]) -> float:
        """The score, 0 to 9, of a step that would follow the answer's log, which does not hold it yet.

        Raises LinkError or Overloaded where the cloud is away, ProtocolViolation where its numbers are unusable.
        """
        ...
