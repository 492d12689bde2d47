"""Multiple choice, by the likelihood of the options and by an answer that names one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from updraft.evaluation.data import read_lines, unique
from updraft.evaluation.signals import signals_of
from updraft.evaluation.subject import Ask, Judged, Subject
from updraft.evaluation.tasks.base import Item, Outcome, TaskOptions, judged_outcome, mean_measures, written_outcome
from updraft.generation import ChatMessage
from updraft.sampling import Sampled

__all__ = ["ChoiceLikelihood", "ChoiceWritten", "Question", "chosen_letter", "read_questions"]

_LETTERS: Final = "ABCDEFGHIJ"


@dataclass(frozen=True, slots=True)
class Question:
    question: str
    choices: tuple[str, ...]
    answer: int

    @property
    def context(self) -> str:
        """As lm-evaluation-harness puts ARC-Easy; options follow after one space."""
        return f"Question: {self.question}\nAnswer:"


def read_questions(path: Path) -> list[Item[Question]]:
    """Lines of `id`, `question`, `choices` (2 to 10 of them) and `answer`, a place from 0.

    Raises:
        InvalidRequest: with file, line and reason.
    """
    items = []
    for line in read_lines(path):
        choices = line.texts("choices", least=2)
        if len(choices) > len(_LETTERS):
            raise line.error(f"choices has {len(choices)} entries; at most {len(_LETTERS)} are read")
        answer = line.whole("answer", below=len(choices))
        items.append(Item(line.name("id"), Question(line.text("question"), tuple(choices), answer)))
    unique(path, [item.id for item in items])
    return items


@dataclass(frozen=True, slots=True)
class ChoiceLikelihood:
    """Which option is most probable after "Question: ...\\nAnswer:", each with one space before it.

    Conventions of lm-evaluation-harness: `acc` takes the largest sum of log-probabilities, `acc_norm` the largest sum
    over the number of the option's characters.
    """

    name: str
    file: str
    options: TaskOptions
    metric = "acc"
    given = True

    @property
    def summary(self) -> str:
        return f"{self.file}: the most probable option"

    def items(self, data: Path) -> list[Item[Question]]:
        return read_questions(data / "multiple_choice" / self.file)

    async def run(self, item: Item[Question], subject: Subject, reference: Outcome | None) -> Outcome:
        question = item.content
        judged = await subject.score(question.context, [f" {choice}" for choice in question.choices])
        sums = [sum(scored.logprob for scored in option) for option in judged.options]
        normed = [value / len(choice) for value, choice in zip(sums, question.choices, strict=True)]
        best, best_normed = _largest(sums), _largest(normed)
        return judged_outcome(
            judged,
            float(best == question.answer),
            measures={"acc_norm": float(best_normed == question.answer)},
            signals=_signals(judged, sums, best),
            answer=_LETTERS[best],
        )

    async def refer(self, item: Item[Any], cloud: Subject) -> Outcome | None:
        return None

    def totals(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        return mean_measures(self.metric, outcomes)


def _largest(values: Sequence[float]) -> int:
    """The first place of the largest value, as numpy's argmax has it."""
    return max(range(len(values)), key=lambda place: values[place])


def _signals(judged: Judged, sums: Sequence[float], best: int) -> dict[str, float]:
    """Of the chosen option, and how far the next one is behind."""
    chosen: list[Sampled] = judged.options[best]
    second = max((value for place, value in enumerate(sums) if place != best), default=sums[best])
    return signals_of(chosen) | {"close_call": second - sums[best]}


@dataclass(frozen=True, slots=True)
class ChoiceWritten:
    """The same questions in a chat: the answer is to name the letter of an option."""

    name: str
    file: str
    options: TaskOptions
    metric = "acc"
    given = False

    @property
    def summary(self) -> str:
        return f"{self.file}: an answer that names the letter of an option"

    def items(self, data: Path) -> list[Item[Question]]:
        return read_questions(data / "multiple_choice" / self.file)

    async def run(self, item: Item[Question], subject: Subject, reference: Outcome | None) -> Outcome:
        question = item.content
        lines = [f"{letter}. {choice}" for letter, choice in zip(_LETTERS, question.choices, strict=False)]
        text = "\n".join([question.question, *lines, "Answer with the letter of the right option only."])
        ask = Ask(messages=[ChatMessage("user", text)], max_tokens=self.options.max_tokens or 16)
        written = await subject.write(ask)
        found = chosen_letter(written.completion.text, question.choices)
        right = found is not None and found == question.answer
        answer = None if found is None else _LETTERS[found]
        return written_outcome(written, float(right), answer=answer, measures={"answered": float(found is not None)})

    async def refer(self, item: Item[Any], cloud: Subject) -> Outcome | None:
        return None

    def totals(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        return mean_measures(self.metric, outcomes)


def chosen_letter(text: str, choices: Sequence[str]) -> int | None:
    """The place of the option that an answer names: by the first letter that stands alone, else by its text.

    None where neither one letter nor exactly one option is in it.
    """
    letters = _LETTERS[: len(choices)]
    # "A" may be an article: a letter counts at the start, in brackets, or with a mark after it.
    pattern = rf"^\W*([{letters}])\b(?!')|\(([{letters}])\)|\b([{letters}])[.):]|\b(?:is|answer)\s+([{letters}])\b"
    if found := re.search(pattern, text.strip()):
        return letters.index(next(group for group in found.groups() if group))
    folded = text.casefold()
    named = [place for place, choice in enumerate(choices) if choice.casefold().strip(" .") in folded]
    return named[0] if len(named) == 1 else None
