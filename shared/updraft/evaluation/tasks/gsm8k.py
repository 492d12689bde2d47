"""GSM8K: grade-school maths; the last number of an answer counts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from updraft.evaluation.data import read_lines
from updraft.evaluation.subject import Ask, Subject
from updraft.evaluation.tasks.base import Item, Outcome, TaskOptions, mean_measures, written_outcome
from updraft.generation import ChatMessage

__all__ = ["GradeSchoolMaths", "Problem", "final_number", "read_problems"]

_MOST_SHOTS: Final = 8
_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?|-?\$?\.\d+")
_NOTES = re.compile(r"<<[^<>]*>>")  # the calculator's annotations in worked answers


@dataclass(frozen=True, slots=True)
class Problem:
    question: str
    worked: str
    answer: Decimal
    shots: tuple[tuple[str, str], ...] = field(default=())


def final_number(text: str) -> Decimal | None:
    """The number after the last `####`, else the last number in the text; None if there is none."""
    _, mark, after = text.rpartition("####")
    for part in (after, text) if mark else (text,):
        found = _NUMBER.findall(part)
        if found:
            try:
                return Decimal((found[0] if part is after and mark else found[-1]).replace(",", "").replace("$", ""))
            except InvalidOperation:
                return None
    return None


def read_problems(path: Path) -> list[Problem]:
    """Lines of `question` and `answer`, which ends with `#### number`. Raises InvalidRequest with file and line."""
    problems = []
    for line in read_lines(path):
        worked = line.text("answer")
        answer = final_number(worked) if "####" in worked else None
        if answer is None:
            raise line.error("answer does not end with #### and a number")
        problems.append(Problem(line.text("question"), _NOTES.sub("", worked), answer))
    return problems


@dataclass(frozen=True, slots=True)
class GradeSchoolMaths:
    """A chat; worked examples of the training set come before as turns of their own if `shots` are asked for."""

    options: TaskOptions
    name = "gsm8k"
    summary = "gsm8k: the last number of a worked answer, exactly"
    metric = "exact"
    given = False

    def items(self, data: Path) -> list[Item[Problem]]:
        shots = min(self.options.shots, _MOST_SHOTS)
        train = read_problems(data / "gsm8k" / "train.jsonl")[:shots] if shots else []
        examples = tuple((problem.question, problem.worked) for problem in train)
        problems = read_problems(data / "gsm8k" / "test.jsonl")
        return [
            Item(str(number), Problem(problem.question, problem.worked, problem.answer, examples))
            for number, problem in enumerate(problems)
        ]

    async def run(self, item: Item[Problem], subject: Subject, reference: Outcome | None) -> Outcome:
        problem = item.content
        messages = []
        for question, worked in problem.shots:
            messages += [ChatMessage("user", _asked(question)), ChatMessage("assistant", worked)]
        messages.append(ChatMessage("user", _asked(problem.question)))
        written = await subject.write(Ask(messages=messages, max_tokens=self.options.max_tokens or 256))
        found = final_number(written.completion.text)
        return written_outcome(
            written, float(found == problem.answer), answer=None if found is None else f"{found.normalize():f}"
        )

    async def refer(self, item: Item[Any], cloud: Subject) -> Outcome | None:
        return None

    def totals(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        return mean_measures(self.metric, outcomes)


def _asked(question: str) -> str:
    return f"{question}\nWork it out step by step. End with a line of #### and the number."
