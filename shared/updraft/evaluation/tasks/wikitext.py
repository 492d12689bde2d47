"""WikiText-2: perplexity over sliding windows, by token and by word."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from updraft.evaluation.data import read_text
from updraft.evaluation.signals import signals_of
from updraft.evaluation.subject import Subject
from updraft.evaluation.tasks.base import Item, Outcome, TaskOptions, judged_outcome

__all__ = ["Perplexity", "Window", "windows"]

_BEFORE: Final = 128  # words that a window's words are judged after
_STEP: Final = 128  # words judged in one window


@dataclass(frozen=True, slots=True)
class Window:
    """Text before, and text to judge, which begins with the space before its first word."""

    before: str
    text: str
    words: int


def windows(text: str, *, before: int = _BEFORE, step: int = _STEP) -> list[Window]:
    """Every word after the first `step` once, after at least the `before` words that precede it.

    Windows are cut by words, not tokens, so that models with different tokenizers are judged on the same ones.
    """
    places = [(match.start(), match.end()) for match in re.finditer(r"\S+", text)]
    found = []
    for first in range(step, len(places), step):
        last = min(first + step, len(places))
        start, border, end = places[max(0, first - before)][0], places[first - 1][1], places[last - 1][1]
        found.append(Window(text[start:border], text[border:end], last - first))
    return found


@dataclass(frozen=True, slots=True)
class Perplexity:
    """The score of a window is its mean log-probability a token (nats)."""

    options: TaskOptions
    name = "wikitext2"
    summary = "wikitext2: perplexity in windows of 128 words after 128"
    metric = "logprob"
    given = True

    def items(self, data: Path) -> list[Item[Window]]:
        path = data / "wikitext2" / "test.txt"
        return [Item(str(number), window) for number, window in enumerate(windows(read_text(path)))]

    async def run(self, item: Item[Window], subject: Subject, reference: Outcome | None) -> Outcome:
        window = item.content
        judged = await subject.score(window.before, [window.text])
        scores = judged.options[0]
        total = sum(scored.logprob for scored in scores)
        return judged_outcome(
            judged,
            total / max(1, len(scores)),
            measures={"loglikelihood": total, "scored_tokens": len(scores), "words": window.words},
            signals=signals_of(scores, given=True),
            units=[round(scored.logprob, 4) for scored in scores],
            doubts=[scored.distribution.entropy for scored in scores],
        )

    async def refer(self, item: Item[Any], cloud: Subject) -> Outcome | None:
        return None

    def totals(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        total = sum(outcome.measures["loglikelihood"] for outcome in outcomes)
        tokens = sum(outcome.measures["scored_tokens"] for outcome in outcomes)
        words = sum(outcome.measures["words"] for outcome in outcomes)
        return {
            self.metric: total / max(1.0, tokens),
            "token_perplexity": math.exp(min(700.0, -total / max(1.0, tokens))),
            "word_perplexity": math.exp(min(700.0, -total / max(1.0, words))),
        }
