"""The decisions of one answer, as the agent records them where a request asks for a trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["STEP_KINDS", "DraftedToken", "StepKind", "Trace", "TraceStep"]

StepKind = Literal["commit", "verify", "accept", "hand_over", "give_up", "degraded", "alone"]

STEP_KINDS: dict[StepKind, str] = {
    "commit": "the edge committed its own tokens",
    "verify": "the cloud judged a draft",
    "accept": "the cloud looked at the edge's tokens, and they stood",
    "hand_over": "the cloud wrote on",
    "give_up": "the edge dropped its draft, and the cloud wrote on",
    "degraded": "the cloud was away or late, and the edge committed its own tokens",
    "alone": "the edge wrote on alone after that",
}
"""What each kind of step means, for readers."""


@dataclass(frozen=True, slots=True)
class DraftedToken:
    """A token that the edge proposed; figures of the distribution that it was drawn from, None where not finite."""

    token: int
    text: str
    logprob: float | None
    entropy: float | None  # nats
    top_probability: float | None


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One decision and what came of it.

    Attributes:
        position: place in the answer of the first token that it was about.
        kind: what was decided; see `STEP_KINDS`.
        drafted: tokens that the edge proposed, in order.
        stood: how many of them, from the first on, are in the answer.
        committed: tokens that the answer got by this step.
        asked_s: when the policy was asked, seconds since the request arrived.
        took_s: until the next step began, or the answer ended.
        waited_ms: time of it in which the answer waited for the cloud.
        bytes_up, bytes_down, cloud_passes, cloud_positions: what the answer spent meanwhile.
    """

    position: int
    kind: StepKind
    drafted: list[DraftedToken]
    stood: int
    committed: int
    asked_s: float
    took_s: float
    waited_ms: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    cloud_passes: int = 0
    cloud_positions: int = 0

    @property
    def rejected(self) -> list[DraftedToken]:
        """Drafted tokens that are not in the answer."""
        return self.drafted[self.stood :]


@dataclass(frozen=True, slots=True)
class Trace:
    """The decisions of an answer.

    Attributes:
        edge, cloud: names of the models; None where the tier is not there or has not said.
        settings: the mode's settings that held, as JSON.
        cut: so long an answer that its later decisions were not recorded.
    """

    edge: str | None = None
    cloud: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    steps: list[TraceStep] = field(default_factory=list)
    cut: bool = False
