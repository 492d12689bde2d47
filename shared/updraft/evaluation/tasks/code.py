"""HumanEval and MBPP: programs that the model completes, run against their tests where that is allowed."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from updraft.errors import InvalidRequest
from updraft.evaluation.data import read_lines, unique
from updraft.evaluation.subject import Ask, Subject
from updraft.evaluation.tasks.base import Item, Outcome, TaskOptions, mean_measures, written_outcome
from updraft.sandbox import run_program

__all__ = ["CodeTask", "Exercise", "completed", "read_exercises"]

# What begins at the margin is no longer the function's body.
_STOP: Final = ("\ndef ", "\nclass ", "\nif ", "\nprint(", "\nassert ", "\n#", "\n@", "\n```")


@dataclass(frozen=True, slots=True)
class Exercise:
    """The beginning of a program, its function's name, and a test that defines `check(candidate)`."""

    prompt: str
    entry_point: str
    test: str
    solution: str


def read_exercises(path: Path) -> list[Item[Exercise]]:
    """Lines of `task_id`, `prompt`, `entry_point`, `test`. Raises InvalidRequest with file, line and reason."""
    items = []
    for line in read_lines(path):
        entry = line.text("entry_point")
        if not entry.isidentifier():
            raise line.error(f"entry_point is {entry!r}, which is no name")
        exercise = Exercise(line.text("prompt"), entry, line.text("test"), str(line.fields.get("canonical_solution")))
        items.append(Item(line.name("task_id"), exercise))
    unique(path, [item.id for item in items])
    return items


def completed(exercise: Exercise, body: str) -> str:
    """The whole program, with its test at the end."""
    return f"{exercise.prompt}{body}\n\n{exercise.test}\n\ncheck({exercise.entry_point})\n"


@dataclass(frozen=True, slots=True)
class CodeTask:
    """The share of programs that pass their tests (pass@1). Refused unless running such programs is allowed."""

    name: str
    file: str
    options: TaskOptions
    metric = "pass@1"
    given = False

    @property
    def summary(self) -> str:
        return f"{self.name}: programs that pass their tests; needs --execute-code"

    def items(self, data: Path) -> list[Item[Exercise]]:
        if not self.options.execute_code:
            raise InvalidRequest(
                f"The task {self.name} runs programs that a model wrote; that is off.",
                remedy="Give --execute-code, best in a container: programs share the kernel and can read your files.",
                param="execute_code",
            )
        return read_exercises(data / self.file)

    async def run(self, item: Item[Exercise], subject: Subject, reference: Outcome | None) -> Outcome:
        exercise = item.content
        ask = Ask(prompt=exercise.prompt, max_tokens=self.options.max_tokens or 256, stop=_STOP)
        written = await subject.write(ask)
        program = completed(exercise, written.completion.text)
        verdict = await run_program(program, unconfined=self.options.unconfined_code)
        return written_outcome(
            written,
            float(verdict.outcome == "passed"),
            answer=verdict.outcome,
            measures={"parses": float(_parses(program)), "timeout": float(verdict.outcome == "timeout")},
        )

    async def refer(self, item: Item[Any], cloud: Subject) -> Outcome | None:
        return None

    def totals(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        return mean_measures(self.metric, outcomes)


def _parses(program: str) -> bool:
    try:
        ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
