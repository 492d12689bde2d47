"""What a Solve asks and answers, once `wire` has read and checked it; these cross to the engine's process, too."""

from __future__ import annotations

from updraft.engine.base import ModelInfo
from updraft.sampling import SamplingParams
from updraft.strategies.problem import Budget, Ended, Spent
from updraft_cloud.frames import Cost, Failed, Frozen, Report, check_edge

__all__ = ["Given", "Noted", "Proposed", "SolveOrder", "SolveReply", "Solved", "Written"]


class Given(Frozen, frozen=True):
    """An answer of the edge's; log-probability, entropy and energy are means of its tokens', nats."""

    tokens: list[int]
    logprob: float
    finished: bool
    entropy: float = 0.0
    energy: float = 0.0


class SolveOrder(Frozen, frozen=True):
    """One answer to be worked on.

    Attributes:
        question: the user's own words; empty: the prompt is shown instead.
        settings: of the strategy, a JSON object.
        verifier: its name and settings, a JSON object; empty for none.
    """

    tokenizer_hash: str
    fingerprint: str
    prompt: list[int]
    question: list[int]
    sampling: SamplingParams
    max_tokens: int
    stop_tokens: frozenset[int]
    top_logprobs: int
    strategy: str
    settings: str
    verifier: str
    budget: Budget
    given: list[Given]
    progress: bool
    alternatives: bool

    def check_model(self, info: ModelInfo) -> None:
        """As `Open.check_model`."""
        check_edge(self.tokenizer_hash, self.fingerprint, info)


class Noted(Frozen, frozen=True):
    """Something that happened on the way; see `updraft.strategies.Progress`. Of texts only a component's name."""

    kind: str
    branch: int
    value: float | None
    source: int | None
    tokens: int
    stage: str = ""


class Written(Frozen, frozen=True):
    """A whole answer.

    Attributes:
        given: number of the edge's answer that it is, from 1; 0 for none.
        reports: one for each token, or none.
    """

    tokens: list[int]
    logprob: float
    finished: bool
    given: int
    reports: list[Report]


class Proposed(Frozen, frozen=True):
    """A final answer with its part of the vote."""

    sample: Written
    weight: float
    samples: int
    score: float | None


class Solved(Frozen, frozen=True):
    """What a Solve came to; see `updraft.strategies.Outcome`."""

    sample: Written
    confidence: float
    verified: bool | None
    alternatives: list[Proposed]
    unparsed: int
    ended: Ended
    spent: Spent
    complaints: list[str]
    cost: Cost | None = None


SolveReply = Noted | Solved | Failed
