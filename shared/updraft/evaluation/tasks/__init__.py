"""The tasks by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from updraft.errors import UnknownName
from updraft.evaluation.tasks.agreement import DistributionAgreement, TextAgreement
from updraft.evaluation.tasks.base import Item, Outcome, Task, TaskOptions
from updraft.evaluation.tasks.choices import ChoiceLikelihood, ChoiceWritten
from updraft.evaluation.tasks.code import CodeTask
from updraft.evaluation.tasks.gsm8k import GradeSchoolMaths
from updraft.evaluation.tasks.ifeval import InstructionFollowing
from updraft.evaluation.tasks.last_word import LastWord, LastWordWritten
from updraft.evaluation.tasks.wikitext import Perplexity

__all__ = ["Item", "Outcome", "Task", "TaskOptions", "make_task", "task_names"]

Maker = Callable[[TaskOptions], Task]

_CHOICES: Final = {
    "arc_easy": "arc_easy.jsonl",
    "piqa": "piqa.jsonl",
    "social_i_qa": "social_i_qa.jsonl",
    "boolq": "boolq_nopassage.jsonl",
    "commonsenseqa": "commonsenseqa_200.jsonl",
}
_PROMPTS: Final = {
    "spec_bench": "spec_bench/question.jsonl",
    "mt_bench": "mt_bench/question.jsonl",
    "self_instruct": "self_instruct/user_oriented_instructions.jsonl",
}
_CODE: Final = {
    "humaneval": "humaneval/HumanEval.jsonl.gz",
    "mbpp": "mbpp_sanitized/mbpp_sanitized_for_code_generation.jsonl",
}


def _makers() -> dict[str, Maker]:
    makers: dict[str, Maker] = {}
    for name, file in _CHOICES.items():
        makers[name] = lambda options, n=name, f=file: ChoiceLikelihood(n, f, options)  # type: ignore[misc]
    for name, file in _CHOICES.items():
        makers[f"{name}_written"] = lambda options, n=f"{name}_written", f=file: ChoiceWritten(n, f, options)  # type: ignore[misc]
    makers |= {
        "lambada": LastWord,
        "lambada_written": LastWordWritten,
        "wikitext2": Perplexity,
        "gsm8k": GradeSchoolMaths,
        "ifeval": InstructionFollowing,
    }
    for name, file in _CODE.items():
        makers[name] = lambda options, n=name, f=file: CodeTask(n, f, options)  # type: ignore[misc]
    for name, file in _PROMPTS.items():
        makers[name] = lambda options, n=name, f=file: TextAgreement(n, f, options)  # type: ignore[misc]
    for name, file in _PROMPTS.items():
        makers[f"{name}_distribution"] = lambda options, n=f"{name}_distribution", f=file: DistributionAgreement(  # type: ignore[misc]
            n, f, options
        )
    return makers


def task_names() -> list[str]:
    """Names that `make_task` knows, besides files."""
    return list(_makers())


def make_task(name: str, options: TaskOptions) -> Task:
    """The task of a name; a file of prompts is a task of agreement with the cloud's text.

    Raises:
        UnknownName: it is neither.
    """
    if name in (makers := _makers()):
        return makers[name](options)
    path = Path(name)
    if path.suffix in {".jsonl", ".txt", ".gz"}:
        return TextAgreement(path.name, path.resolve(), options)
    known = ", ".join(makers)
    raise UnknownName(f"There is no task {name!r}; tasks are {known}, or a file of prompts.", param="task")
