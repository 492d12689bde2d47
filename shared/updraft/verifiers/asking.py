"""Verifiers that ask the model itself whether an answer is right.

The answer to each question is read off the next token's distribution, so that questions about many answers, and all
wordings of one, share passes and the cache of what they have in common. Nothing is written but a check that is asked
for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from updraft.sampling import SamplingParams
from updraft.strategies.prompts import ask, first_tokens, follow_up
from updraft.verifiers.base import Asked, Claim, Judgement
from updraft.verifiers.settings import Resources, Scorer, VerifierSettings

__all__ = ["Generative", "SelfEvaluation"]

_SHOWN: Final = "Question: {question}\n\nProposed answer: {answer}\n\n"
_OPTIONS: Final = ("The proposed answer is right.", "The proposed answer is wrong.")
_PICK: Final = "Which is true?\nA) {first}\nB) {second}\nAnswer with A or B."
_YES_NO: Final = ("Yes", "No")
_CHECK: Final = "Check the proposed answer step by step."
_VERDICT: Final = "So is the proposed answer correct? Answer Yes or No."
_WARM: Final = SamplingParams(temperature=0.7)
_TOO_LONG: Final = Judgement(None, reason="the answer is too long for the model that judges")
_WORDINGS: Final = (
    "Is the answer correct? Answer Yes or No.",
    "Check the answer step by step. Does it solve the question without a mistake? Answer Yes or No.",
    "Would an expert give this final answer? Answer Yes or No.",
    "Is it true that the proposed answer holds no error? Answer Yes or No.",
)


class SelfEvaluation(VerifierSettings):
    """The model picks "right" or "wrong", asked twice with the options swapped (RAIN, arXiv 2309.07124).

    The score is the mean probability of "right" against "wrong": who always prefers the first option gets a half.
    """

    kind: ClassVar[str] = "self"

    def scorer(self, resources: Resources) -> Scorer:
        reader = resources.asked(self.kind)
        right, wrong = _OPTIONS
        questions = [_PICK.format(first=right, second=wrong), _PICK.format(first=wrong, second=right)]
        return _asking(reader, questions, [("A", "B"), ("B", "A")])

    def model(self, resources: Resources) -> str:
        return resources.asked(self.kind).engine.info.fingerprint


class Generative(VerifierSettings):
    """Yes or no, by several votes (When to Solve, When to Verify, COLM 2025).

    Without `reason` each vote is a wording of its own, and no tokens are drawn. With it each is a check that the model
    writes first, drawn at temperature 0.7 as the published votes are; it is then asked for its verdict. A vote is the
    probability of "Yes" against "No".

    Attributes:
        votes: verdicts; without `reason` there are no more of them than wordings.
        reason: tokens of the written check of each vote, at most.
    """

    kind: ClassVar[str] = "generative"

    votes: int = Field(default=4, ge=1, le=32)
    reason: int = Field(default=0, ge=0, le=2048)

    @model_validator(mode="after")
    def _worded(self) -> Self:
        if not self.reason and self.votes > len(_WORDINGS):
            raise ValueError(f"there are {len(_WORDINGS)} wordings; more votes need reason")
        return self

    def scorer(self, resources: Resources) -> Scorer:
        reader = resources.asked(self.kind)
        if self.reason:
            return _reasoning(reader, self.votes, self.reason)
        return _asking(reader, _WORDINGS[: self.votes], [_YES_NO] * self.votes)

    def model(self, resources: Resources) -> str:
        return resources.asked(self.kind).engine.info.fingerprint


def _reasoning(reader: Asked, votes: int, most: int) -> Scorer:
    """Has the model check each claim `votes` times in at most so many tokens, and reads its verdicts."""
    engine = reader.engine
    choices, verdict = first_tokens(engine, _YES_NO), follow_up(engine, _VERDICT)

    async def score(claims: Sequence[Claim]) -> list[Judgement]:
        texts = [ask(engine, _shown(claim) + _CHECK) for claim in claims]
        short = [len(text) + most + len(verdict) <= engine.context for text in texts]
        prompts = [text for text, fits in zip(texts, short, strict=True) if fits for _ in range(votes)]
        checks = await reader.writes(prompts, most, _WARM)
        asked = [[*prompt, *check, *verdict] for prompt, check in zip(prompts, checks, strict=True)]
        rows = await reader.choices(asked, choices)
        answered = iter(rows.reshape(-1, votes, len(choices)))
        columns = [(0, 1)] * votes
        return [Judgement(_mean_odds(next(answered), columns)) if fits else _TOO_LONG for fits in short]

    return score


def _asking(reader: Asked, questions: Sequence[str], options: Sequence[tuple[str, str]]) -> Scorer:
    """Asks all questions about each claim. `options`: of each question, what says right and what says wrong."""
    engine = reader.engine
    words = sorted({word for pair in options for word in pair})
    choices = first_tokens(engine, words)
    columns = [(words.index(right), words.index(wrong)) for right, wrong in options]

    async def score(claims: Sequence[Claim]) -> list[Judgement]:
        texts = [[ask(engine, _shown(claim) + question) for question in questions] for claim in claims]
        short = [max(map(len, asked)) <= engine.context for asked in texts]
        rows = await reader.choices(
            [text for asked, fits in zip(texts, short, strict=True) if fits for text in asked], choices
        )
        answered = iter(rows.reshape(-1, len(questions), len(choices)))
        return [Judgement(_mean_odds(next(answered), columns)) if fits else _TOO_LONG for fits in short]

    return score


def _shown(claim: Claim) -> str:
    return _SHOWN.format(question=claim.question, answer=claim.text)


def _mean_odds(rows: NDArray[np.float32], columns: Sequence[tuple[int, int]]) -> float:
    """Mean probability of the one option against the other."""
    odds = [float(row[right]) - float(row[wrong]) for row, (right, wrong) in zip(rows, columns, strict=True)]
    return float(np.mean(0.5 * (1.0 + np.tanh(np.array(odds) / 2.0))))
