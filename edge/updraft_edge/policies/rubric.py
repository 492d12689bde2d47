"""How the cloud is asked to grade a step, and how its grade is read (SpecReason, arXiv 2504.07891, section 4.1).

The wording is our own. The grade is one digit; what counts is how probable the model holds each of the ten.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, Protocol

from updraft.chat_template import ChatTemplate
from updraft.errors import InvalidRequest, ProtocolViolation
from updraft_edge.cloud_session import CloudSession

__all__ = [
    "DIGITS",
    "PREFILL",
    "RUBRIC",
    "Encoder",
    "LikelihoodJudge",
    "Question",
    "Questions",
    "Scoring",
    "SessionJudge",
    "digit_tokens",
    "grade",
    "question",
]

Scoring = Literal["average", "greedy"]

DIGITS = tuple("0123456789")
RUBRIC = (
    "Grade the last paragraph of the answer above as a step of the solution: is it true, and does it follow from what "
    "comes before? Reply with one digit from 0 (plainly wrong) to 9 (certainly right)."
)
PREFILL = "Grade:"


class Encoder(Protocol):
    """What the rubric needs of a tokenizer."""

    def encode(self, text: str, *, special: bool = False) -> list[int]: ...


def question(template: ChatTemplate | None) -> str:
    """What follows the answer and the step: their end, the rubric, and the start of the grade.

    Args:
        template: the model's chat template; None where the prompt was plain text.
    """
    if template is None:
        return f"\n\n{RUBRIC}\n{PREFILL}"
    mark = "\u2063step\u2063"
    turns = [("user", "question"), ("assistant", mark), ("user", RUBRIC)]
    text = template.render([{"role": role, "content": content} for role, content in turns])
    if mark not in text:
        raise InvalidRequest("The model's chat template drops the assistant's turns: a step cannot be graded with it.")
    return text.split(mark, 1)[1] + PREFILL


def digit_tokens(tokenizer: Encoder, text: str) -> tuple[list[int], list[int]]:
    """Token ids of `text`, up to where a digit may follow, and the ids of the ten digits as they would follow it.

    Raises InvalidRequest where the tokenizer has no token for each digit.
    """
    for before, space in ((f"{text} ", ""), (text, " "), (text, "")):
        start = tokenizer.encode(before, special=True)
        ends = [tokenizer.encode(f"{before}{space}{digit}", special=True) for digit in DIGITS]
        digits = [end[-1] for end in ends if end[:-1] == start]
        if len(set(digits)) == len(DIGITS):
            return start, digits
    raise InvalidRequest(
        "The model's tokenizer has no token for each digit: its steps cannot be graded.", param="updraft.mode"
    )


def grade(logprobs: Mapping[int, float], scoring: Scoring) -> float:
    """The grade, 0 to 9, from log-probabilities by digit: their expectation, or the most probable digit.

    Digits that are missing count nothing. Raises ProtocolViolation where none is given or a number is NaN.
    """
    known = {digit: value for digit, value in logprobs.items() if value != -math.inf}
    if not known or not all(math.isfinite(value) for value in known.values()):
        raise ProtocolViolation("The cloud's grades are unusable: no digit, or a number that is not finite.")
    best = max(known, key=lambda digit: (known[digit], -digit))
    if scoring == "greedy":
        return float(best)
    weights = {digit: math.exp(value - known[best]) for digit, value in known.items()}
    return sum(digit * weight for digit, weight in weights.items()) / sum(weights.values())


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked after a step: token ids up to where the grade follows, and those of the ten digits."""

    tokens: list[int]
    digits: list[int]


class Questions:
    """The questions of one model, made when they are first needed: inside a chat and after plain text.

    Args:
        template: Jinja source of the model's chat template, if it has one.
    """

    def __init__(self, tokenizer: Encoder, template: str | None) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._made: dict[bool, Question] = {}

    def after(self, prompt: Sequence[int], *, chat: bool) -> Question:
        """The question for an answer to `prompt`; `chat` if it is known to be one, else it shows by its end of a turn.

        Raises InvalidRequest where the model's tokenizer or template is of no use for it.
        """
        if not chat and self._template is not None:
            chat = self._get(chat=True).tokens[0] in prompt
        return self._get(chat=chat)

    def _get(self, *, chat: bool) -> Question:
        if chat not in self._made:
            text = question(ChatTemplate(self._template) if chat else None)
            self._made[chat] = Question(*digit_tokens(self._tokenizer, text))
        return self._made[chat]


class LikelihoodJudge:
    """A `StepJudge` without a rubric: nine times the geometric mean of the probabilities that the cloud's model gives
    the step's tokens. Small models that cannot grade still know what they would not have written."""

    def __init__(self, session: CloudSession) -> None:
        self._session = session

    async def score_step(self, step: Sequence[int]) -> float:
        scored = await self._session.score(step, each=True)
        return 9.0 * math.exp(min(0.0, fmean(report.logprob for report in scored.reports)))


class SessionJudge:
    """A `StepJudge` by way of a session's `score`: one question, which the cloud answers and forgets."""

    def __init__(self, session: CloudSession, asked: Question, scoring: Scoring) -> None:
        self._session = session
        self._asked = asked
        self._scoring: Scoring = scoring

    async def score_step(self, step: Sequence[int]) -> float:
        scored = await self._session.score([*step, *self._asked.tokens], choices=self._asked.digits)
        return grade(dict(enumerate(scored.choices)), self._scoring)
