"""Verifiers that ask the model itself whether an answer is right, without a word being written.

The answer to each question is read off the next token's distribution, so that questions about many answers, and all
wordings of one, share passes and the cache of what they have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from updraft.strategies.prompts import ask, first_tokens
from updraft.verifiers.base import Asked, Claim, Judgement
from updraft.verifiers.settings import Resources, Scorer, VerifierSettings

__all__ = ["Generative", "SelfEvaluation"]

_SHOWN: Final = "Question: {question}\n\nProposed answer: {answer}\n\n"
_OPTIONS: Final = ("The proposed answer is right.", "The proposed answer is wrong.")
_PICK: Final = "Which is true?\nA) {first}\nB) {second}\nAnswer with A or B."
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

    Published votes are sampled verdicts after reasoning; here each is a wording of its own, and its vote the
    probability of "Yes" against "No": no tokens are drawn, and the same answer always gets the same score.

    Attributes:
        votes: wordings that are asked.
    """

    kind: ClassVar[str] = "generative"

    votes: int = Field(default=4, ge=1, le=len(_WORDINGS))

    def scorer(self, resources: Resources) -> Scorer:
        reader = resources.asked(self.kind)
        return _asking(reader, _WORDINGS[: self.votes], [("Yes", "No")] * self.votes)

    def model(self, resources: Resources) -> str:
        return resources.asked(self.kind).engine.info.fingerprint


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
        return [
            Judgement(_mean_odds(next(answered), columns))
            if fits
            else Judgement(None, reason="the answer is too long for the model that judges")
            for fits in short
        ]

    return score


def _shown(claim: Claim) -> str:
    return _SHOWN.format(question=claim.question, answer=claim.text)


def _mean_odds(rows: NDArray[np.float32], columns: Sequence[tuple[int, int]]) -> float:
    """Mean probability of the one option against the other."""
    odds = [float(row[right]) - float(row[wrong]) for row, (right, wrong) in zip(rows, columns, strict=True)]
    return float(np.mean(0.5 * (1.0 + np.tanh(np.array(odds) / 2.0))))
