"""What a strategy is given, and what comes out: the types that strategies, verifiers and pipelines share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from updraft.errors import InvalidRequest
from updraft.modes import Origin
from updraft.routing.votes import final_answer
from updraft.sampling import Sampled, SamplingParams

__all__ = [
    "MOST_SAMPLES",
    "Alternative",
    "Budget",
    "Ended",
    "Outcome",
    "Problem",
    "Progress",
    "Sample",
    "Spent",
    "read_final",
]

MOST_SAMPLES: Final = 1024
"""Of one request."""

Ended = Literal["done", "confident", "saturated", "samples", "tokens", "calls", "time"]
"""Why a strategy stopped: all was done; it was sure enough; more would not pay; or a part of the budget was used up."""

Extractor = Callable[[str], str | None]
"""The final answer that a text gives, in a form that equal answers share; None where it cannot be parsed."""


def read_final(text: str) -> str | None:
    """The final answer as votes compare it; None for a text without words."""
    return final_answer(text) or None


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent on one request; None is no limit.

    Attributes:
        samples: answers, particles or expansions, whatever the strategy counts in.
        tokens: drawn by the model, of all branches together.
        calls: answers or steps that a verifier judges.
        seconds: after which the strategy stops with what it has.
    """

    samples: int = 8
    tokens: int | None = None
    calls: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, most in (("samples", MOST_SAMPLES), ("tokens", 1 << 20), ("calls", 1 << 16), ("seconds", 3600)):
            value = getattr(self, name)
            if value is not None and not 0 < value <= most:
                raise InvalidRequest(
                    f"budget.{name} is {value}; it must be above 0 and at most {most}.", param="budget"
                )


@dataclass(frozen=True, slots=True)
class Sample:
    """One whole answer.

    Attributes:
        tokens: its ids, an end token included.
        logprob: mean log-probability of its tokens, nats.
        answer: its final answer; None where it cannot be parsed.
        finished: the model ended it; else it was cut.
        branch: its number; -1 for one that came with the request.
        entropy, energy: means of the distributions that its tokens were drawn from (`updraft.sampling.Distribution`),
            nats; None where nobody measured them.
        written: the tokens as they were drawn, where it was written here.
    """

    text: str
    tokens: tuple[int, ...]
    logprob: float
    answer: str | None
    finished: bool = True
    origin: Origin = Origin.CLOUD
    branch: int = -1
    entropy: float | None = None
    energy: float | None = None
    written: tuple[Sampled, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Problem:
    """A prompt, and how its answers are to be read.

    Attributes:
        prompt: token ids, as the chat template renders them.
        question: the user's own words, which verifiers and prompts of further rounds show.
        max_tokens: of one answer.
        step: the text that ends a step.
        extract: reads a text's final answer.
        given: answers that came with the request, such as the edge's.
    """

    prompt: Sequence[int]
    question: str
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int = 512
    step: str = "\n\n"
    extract: Extractor = read_final
    given: Sequence[Sample] = ()


@dataclass(slots=True)
class Spent:
    """What a request has cost so far; `prefilled` are positions that were computed and not drawn."""

    samples: int = 0
    tokens: int = 0
    prefilled: int = 0
    verifier_calls: int = 0
    verifier_positions: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Something that happened on the way, for who watches.

    Attributes:
        kind: sample: an answer was written; step: a branch has one step more; score: a verifier judged; prune,
            resample: a branch was given up, or goes on as a copy of `source`; answer: this answer leads now; stage: a
            component of a pipeline begins, named in `text`.
        value: a score or a confidence, 0 to 1.
        tokens: drawn so far, all branches together.
        text: the answer, the step or the component's name.
    """

    kind: Literal["sample", "step", "score", "prune", "resample", "answer", "stage"]
    branch: int = -1
    value: float | None = None
    source: int | None = None
    tokens: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Alternative:
    """A final answer: the best sample that gave it, its part of all weights, and what a verifier gave that sample."""

    sample: Sample
    weight: float
    samples: int
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a strategy came to.

    Attributes:
        sample: the answer.
        confidence: 0 to 1, how sure the strategy is: the answer's part of the vote, or a verifier's score.
        verified: a verifier passed it; None where none could judge it.
        alternatives: all final answers, the chosen one first, then by weight.
        unparsed: samples that no final answer could be read from.
        complaints: what went wrong with verifiers on the way; the answers they should have judged are unverified.
    """

    sample: Sample
    confidence: float
    verified: bool | None = None
    alternatives: tuple[Alternative, ...] = ()
    unparsed: int = 0
    ended: Ended = "done"
    spent: Spent = field(default_factory=Spent)
    complaints: tuple[str, ...] = ()
