"""The seam of verifiers: who judges whether an answer, or a step of it, is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from updraft.engine.base import Engine, FloatRows
from updraft.sampling import SamplingParams

__all__ = ["Asked", "Claim", "Judgement", "Reader", "Verifier"]


@dataclass(frozen=True, slots=True)
class Claim:
    """An answer, whole or as far as it is written, to be judged.

    Attributes:
        question: the user's own words.
        prompt: token ids that the answer was written after.
        tokens: the answer's, without an end token.
        text: what these say.
        logprob: their mean log-probability, nats, by the model that wrote them.
        finished: it is whole; else a verifier of processes judges the steps so far, and others cannot tell.
    """

    question: str
    prompt: Sequence[int]
    tokens: Sequence[int]
    text: str
    logprob: float = 0.0
    finished: bool = True


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a verifier thinks of one claim.

    Attributes:
        score: how likely it is right, 0 to 1; None where the verifier failed or cannot tell: the claim is unverified.
        passed: the score is enough; exact verifiers say just this.
        reason: why it did not pass or could not be judged; never holds the prompt.
        failed: the verifier itself went wrong (crashed, hung, returned nonsense), as told from not being able to tell.
        positions: that a model of the verifier's own computed for it.
    """

    score: float | None
    passed: bool = False
    reason: str = ""
    failed: bool = False
    positions: int = 0


class Reader(Protocol):
    """A model that a verifier asks: `Forks` is one, and so is a `Forks` over another model's engine."""

    async def choices(self, texts: Sequence[Sequence[int]], choices: Sequence[int]) -> FloatRows:
        """Log-probabilities of tokens as the next one after each text, shape (texts, choices), nats."""
        ...


class Asked(Reader, Protocol):
    """A `Reader` whose tokenizer and chat template are known, and that can write; `Forks` is one."""

    @property
    def engine(self) -> Engine: ...

    async def writes(self, prompts: Sequence[Sequence[int]], most: int, sampling: SamplingParams) -> list[list[int]]:
        """What is drawn after each prompt, at most so many tokens, without end tokens."""
        ...


class Verifier(Protocol):
    """Judges claims. It may raise anything; `Workspace.judge` isolates it."""

    @property
    def name(self) -> str: ...

    @property
    def judges_steps(self) -> bool:
        """It can judge answers that are not whole yet (a process reward model)."""
        ...

    @property
    def false_positive_rate(self) -> float | None:
        """Of wrong answers, the part that passes, as measured on labelled data; None where that was not measured."""
        ...

    async def judge(self, claims: Sequence[Claim]) -> Sequence[Judgement]:
        """One judgement each, in order."""
        ...
