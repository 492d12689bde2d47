"""IFEval: does an answer follow instructions that a rule can check?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from updraft.evaluation.data import Line, read_lines, unique
from updraft.evaluation.instructions import CHECKS, follows, follows_loosely, parameters_of
from updraft.evaluation.subject import Ask, Subject
from updraft.evaluation.tasks.base import Item, Outcome, TaskOptions, mean_measures, written_outcome
from updraft.generation import ChatMessage

__all__ = ["Instructed", "InstructionFollowing", "read_instructed"]


@dataclass(frozen=True, slots=True)
class Instructed:
    """A prompt with the instructions in it: kind and parameters of each."""

    prompt: str
    instructions: tuple[tuple[str, dict[str, Any]], ...]


def read_instructed(path: Path) -> list[Item[Instructed]]:
    """Lines of `key`, `prompt`, `instruction_id_list`, `kwargs`; those that no rule of ours checks are left out.

    Raises:
        InvalidRequest: with file, line and reason, also where nothing is left.
    """
    lines = read_lines(path)
    read = [(line, _instructed(line)) for line in lines]
    items = [Item(line.name("key"), content) for line, content in read if content is not None]
    if not items:
        raise lines[0].error("no line of the file holds instructions that can be checked")
    unique(path, [item.id for item in items])
    return items


def _instructed(line: Line) -> Instructed | None:
    kinds, given = line.texts("instruction_id_list"), line.list("kwargs")
    if len(kinds) != len(given) or not all(isinstance(entry, dict) for entry in given):
        raise line.error("kwargs does not hold one object for each instruction")
    if not all(kind in CHECKS for kind in kinds):
        return None
    try:
        pairs = tuple((kind, parameters_of(kind, entry)) for kind, entry in zip(kinds, given, strict=True))
    except ValueError as error:
        raise line.error(str(error)) from error
    return Instructed(line.text("prompt"), pairs)


@dataclass(frozen=True, slots=True)
class InstructionFollowing:
    """The score is 1 where every instruction of a prompt is followed, strictly."""

    options: TaskOptions
    name = "ifeval"
    summary = "ifeval: answers that follow every checkable instruction of a prompt"
    metric = "prompt_strict"
    given = False

    def items(self, data: Path) -> list[Item[Instructed]]:
        return read_instructed(data / "ifeval" / "input_data.jsonl")

    async def run(self, item: Item[Instructed], subject: Subject, reference: Outcome | None) -> Outcome:
        asked = item.content
        ask = Ask(messages=[ChatMessage("user", asked.prompt)], max_tokens=self.options.max_tokens or 320)
        written = await subject.write(ask)
        text = written.completion.text
        strict = [follows(kind, text, given) for kind, given in asked.instructions]
        loose = [follows_loosely(kind, text, given) for kind, given in asked.instructions]
        measures = {
            "instruction_strict": sum(strict) / len(strict),
            "prompt_loose": float(all(loose)),
            "instruction_loose": sum(loose) / len(loose),
        }
        return written_outcome(written, float(all(strict)), measures=measures)

    async def refer(self, item: Item[Any], cloud: Subject) -> Outcome | None:
        return None

    def totals(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        return mean_measures(self.metric, outcomes)
