"""Agreement with the cloud: its text, written again, and its distribution along its own text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from updraft.errors import InvalidRequest
from updraft.evaluation.data import Line, bad_data, read_lines, read_text
from updraft.evaluation.signals import signals_of
from updraft.evaluation.similarity import edit_similarity, kl_divergence, lcs_f1, prefix_share, total_variation
from updraft.evaluation.subject import Ask, Subject
from updraft.evaluation.tasks.base import Item, Outcome, TaskOptions, judged_outcome, mean_measures, written_outcome
from updraft.generation import ChatMessage

__all__ = ["DistributionAgreement", "Question", "TextAgreement", "read_prompts"]


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    kind: str = ""


def read_prompts(path: Path) -> list[Item[Question]]:
    """Prompts of a file: lines of a .txt, or objects with `turns` (the first), `prompt`, `question` or `instruction`.

    Kinds of prompts take turns, so that the first few hold some of each.

    Raises:
        InvalidRequest: with file, line and reason.
    """
    if path.suffix == ".txt":
        lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), start=1) if line.strip()]
        return [Item(str(number), Question(line)) for number, line in lines]
    items = [
        Item(f"{line.number}/{line.name('question_id', 'id', 'key')}", _question(line)) for line in read_lines(path)
    ]
    groups: dict[str, list[Item[Question]]] = {}
    for item in items:
        groups.setdefault(item.content.kind, []).append(item)
    return [item for row in itertools.zip_longest(*groups.values()) for item in row if item is not None]


def _question(line: Line) -> Question:
    kind = str(line.fields.get("category", ""))
    if "turns" in line.fields:
        return Question(line.texts("turns")[0], kind)
    for name in ("prompt", "question", "instruction"):
        if name in line.fields:
            return Question(_with_input(line, line.text(name)), kind)
    raise line.error("it has none of turns, prompt, question and instruction")


def _with_input(line: Line, text: str) -> str:
    """Self-Instruct's tasks carry the text that they are about in their first instance."""
    instances = line.fields.get("instances")
    first = instances[0] if isinstance(instances, list) and instances else None
    given = first.get("input") if isinstance(first, dict) else None
    return f"{text}\n\n{given}" if isinstance(given, str) and given.strip() else text


@dataclass(frozen=True, slots=True)
class _Prompts:
    """What both tasks read: a file of the data folder, or one that is named."""

    name: str
    file: str | Path
    options: TaskOptions

    def items(self, data: Path) -> list[Item[Question]]:
        path = self.file if isinstance(self.file, Path) else data / self.file
        items = read_prompts(path)
        if not items:
            raise bad_data(path, "there is not one prompt in it")
        return items

    async def refer(self, item: Item[Question], cloud: Subject) -> Outcome | None:
        return written_outcome(await cloud.write(self._ask(item)), 1.0)

    def _ask(self, item: Item[Question]) -> Ask:
        return Ask(messages=[ChatMessage("user", item.content.text)], max_tokens=self.options.max_tokens or 64)


@dataclass(frozen=True, slots=True)
class TextAgreement(_Prompts):
    """F1 of the longest common subsequence with the cloud's own answer (ROUGE-L over tokens)."""

    metric = "rouge_l"
    given = False

    @property
    def summary(self) -> str:
        return f"{self.name}: agreement with the cloud's own text"

    async def run(self, item: Item[Question], subject: Subject, reference: Outcome | None) -> Outcome:
        written = await subject.write(self._ask(item))
        ours = list(written.completion.token_ids)
        theirs = ours if reference is None else reference.token_ids
        measures = {
            "exact": float(ours == theirs),
            "prefix": prefix_share(ours, theirs),
            "edit": edit_similarity(ours, theirs),
        }
        return written_outcome(written, lcs_f1(ours, theirs), measures=measures)

    def totals(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        return mean_measures(self.metric, outcomes)


@dataclass(frozen=True, slots=True)
class DistributionAgreement(_Prompts):
    """Along the cloud's own answer: where the most probable token is the cloud's, total variation and KL.

    The cloud's greedy text is the reference. Both distributions are known by their 20 most probable tokens, so that
    `total_variation` and `kl` are lower bounds.
    """

    metric = "same_best"
    given = True

    @property
    def summary(self) -> str:
        return f"{self.name}: agreement with the cloud's distribution along its own text"

    async def run(self, item: Item[Question], subject: Subject, reference: Outcome | None) -> Outcome:
        if reference is None or not reference.token_ids:
            raise InvalidRequest("The cloud wrote nothing to compare with.")
        prompt = subject.prompt_tokens(self._ask(item))
        judged = await subject.score_tokens(prompt, reference.token_ids, top_logprobs=20)
        cloud = await subject.cloud_scores(prompt, reference.token_ids, top_logprobs=20)
        scores = judged.options[0]
        pairs = list(zip(cloud, scores, strict=True))
        same = [float(theirs.top[0][0] == ours.top[0][0]) for theirs, ours in pairs]
        measures = {
            "total_variation": sum(total_variation(theirs, ours) for theirs, ours in pairs) / len(pairs),
            "kl": sum(kl_divergence(theirs, ours) for theirs, ours in pairs) / len(pairs),
        }
        return judged_outcome(
            judged,
            sum(same) / len(same),
            measures=measures,
            units=same,
            doubts=[scored.distribution.entropy for scored in scores],
            signals=signals_of(scores, given=True),
        )

    def totals(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        return mean_measures(self.metric, outcomes)
