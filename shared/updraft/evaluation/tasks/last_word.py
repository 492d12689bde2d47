"""LAMBADA: the last word of a passage, judged and written."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from updraft.evaluation.data import read_lines
from updraft.evaluation.signals import signals_of
from updraft.evaluation.subject import Ask, Subject
from updraft.evaluation.tasks.base import Item, Outcome, TaskOptions, judged_outcome, mean_measures, written_outcome

__all__ = ["LastWord", "LastWordWritten", "Passage", "read_passages"]

_FILE: Final = Path("lambada/lambada_test.jsonl")
_WORD = re.compile(r"[\w'-]+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage without its last word, and the word."""

    context: str
    word: str


def read_passages(path: Path) -> list[Item[Passage]]:
    """Lines of `text`: what comes before the last space, and the word after it.

    Raises:
        InvalidRequest: with file, line and reason.
    """
    items = []
    for line in read_lines(path):
        context, space, word = line.text("text").rstrip().rpartition(" ")
        if not space or not context.strip():
            raise line.error("text has no last word with something before it")
        items.append(Item(str(line.number), Passage(context, word)))
    return items


@dataclass(frozen=True, slots=True)
class LastWord:
    """Whether every token of the word is the most probable one, and its perplexity (as lm-evaluation-harness)."""

    options: TaskOptions
    name = "lambada"
    summary = "lambada: the last word, judged; perplexity of it"
    metric = "acc"
    given = True

    def items(self, data: Path) -> list[Item[Passage]]:
        return read_passages(data / _FILE)

    async def run(self, item: Item[Passage], subject: Subject, reference: Outcome | None) -> Outcome:
        passage = item.content
        judged = await subject.score(passage.context, [f" {passage.word}"], top_logprobs=1)
        scores = judged.options[0]
        right = all(scored.top[0][0] == scored.token for scored in scores)
        loglikelihood = sum(scored.logprob for scored in scores)
        return judged_outcome(
            judged,
            float(right),
            measures={"loglikelihood": loglikelihood},
            signals=signals_of(scores[:1], given=True),  # later places are told about the word
            units=[float(scored.top[0][0] == scored.token) for scored in scores],
            doubts=[scored.distribution.entropy for scored in scores],
        )

    async def refer(self, item: Item[Any], cloud: Subject) -> Outcome | None:
        return None

    def totals(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        found = mean_measures(self.metric, outcomes)
        return found | {"perplexity": math.exp(min(700.0, -found["loglikelihood"]))}


@dataclass(frozen=True, slots=True)
class LastWordWritten:
    """The model goes on from the passage; its first word is compared with the passage's last."""

    options: TaskOptions
    name = "lambada_written"
    summary = "lambada: the last word, written"
    metric = "acc"
    given = False

    def items(self, data: Path) -> list[Item[Passage]]:
        return read_passages(data / _FILE)

    async def run(self, item: Item[Passage], subject: Subject, reference: Outcome | None) -> Outcome:
        passage = item.content
        written = await subject.write(Ask(prompt=passage.context, max_tokens=self.options.max_tokens or 6))
        found, wanted = _WORD.search(written.completion.text), _WORD.search(passage.word)
        word = found[0] if found else None
        right = word is not None and word == (wanted[0] if wanted else passage.word)
        return written_outcome(written, float(right), answer=word)

    async def refer(self, item: Item[Any], cloud: Subject) -> Outcome | None:
        return None

    def totals(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        return mean_measures(self.metric, outcomes)
