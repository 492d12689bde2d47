"""What every task is: items read from a folder, and an outcome for each item and variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from updraft.evaluation.subject import Judged, Subject, Written

__all__ = ["Item", "Outcome", "Task", "TaskOptions", "judged_outcome", "mean_measures", "written_outcome"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What changes a task's results, so that it is part of a result's key.

    Attributes:
        max_tokens: longest answer; the task's own when None.
        shots: worked examples before the question, where a task has some.
        execute_code: run programs that the model wrote.
        unconfined_code: also where the system cannot take network and files away from them.
    """

    max_tokens: int | None = None
    shots: int = 0
    execute_code: bool = False
    unconfined_code: bool = False


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """One question; `id` is unique within its task."""

    id: str
    content: T


@dataclass(slots=True)
class Outcome:
    """What a variant made of an item.

    Attributes:
        score: the task's main measure; higher is better.
        measures: further ones.
        units: quality of each token where given text is judged: what a token-level oracle chooses from.
        doubts: entropy at each of these tokens (nats), before the token was known.
        share: of the answer's tokens that the cloud wrote or judged.
        signals: how sure the writing tier was, see `evaluation.signals`.
        token_ids: the answer, for tasks that compare answers; kept in files only if texts are.
    """

    score: float
    measures: dict[str, float] = field(default_factory=dict)
    units: list[float] = field(default_factory=list)
    doubts: list[float] = field(default_factory=list)
    share: float = 0.0
    tokens: int = 0
    cloud_tokens: int = 0
    cloud_passes: int = 0
    seconds: float = 0.0
    signals: dict[str, float] = field(default_factory=dict)
    degraded: bool = False
    answer: str | None = None
    text: str | None = None
    token_ids: list[int] = field(default_factory=list)


class Task(Protocol):
    """A task. `given`: it judges given text, which only the modes edge, cloud and span can do."""

    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str: ...

    @property
    def metric(self) -> str:
        """Name of the main measure."""
        ...

    @property
    def given(self) -> bool: ...

    def items(self, data: Path) -> list[Item[Any]]:
        """All items, in the order of the file. Raises InvalidRequest naming file, line and reason."""
        ...

    async def run(self, item: Item[Any], subject: Subject, reference: Outcome | None) -> Outcome:
        """Judge one item; `reference` is what `refer` gave."""
        ...

    async def refer(self, item: Item[Any], cloud: Subject) -> Outcome | None:
        """The cloud's answer to an item, for tasks that compare with it; None for others."""
        ...

    def totals(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        """Measures over all items, the main one first."""
        ...


def mean_measures(metric: str, outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Means of the score and of every measure."""
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.measures))
    found = {metric: sum(outcome.score for outcome in outcomes) / len(outcomes)}
    for name in names:
        values = [outcome.measures[name] for outcome in outcomes if name in outcome.measures]
        found.setdefault(name, sum(values) / len(values))
    return found


def written_outcome(
    written: Written, score: float, *, answer: str | None = None, measures: Mapping[str, float] | None = None
) -> Outcome:
    """The outcome of an answer."""
    statistics = written.completion.statistics
    return Outcome(
        score=score,
        measures=dict(measures or {}),
        share=statistics.cloud_share,
        tokens=statistics.tokens,
        cloud_tokens=statistics.cloud_tokens,
        cloud_passes=statistics.cloud_passes,
        seconds=written.seconds,
        signals=written.signals,
        degraded=written.completion.degraded or written.completion.withheld is not None,
        answer=answer,
        text=written.completion.text,
        token_ids=list(written.completion.token_ids),
    )


def judged_outcome(
    judged: Judged,
    score: float,
    *,
    signals: Mapping[str, float],
    measures: Mapping[str, float] | None = None,
    units: Sequence[float] = (),
    doubts: Sequence[float] = (),
    answer: str | None = None,
) -> Outcome:
    """The outcome of scores of given text."""
    flags = [flag for option in judged.cloud for flag in option]
    return Outcome(
        score=score,
        measures=dict(measures or {}),
        units=list(units),
        doubts=[round(doubt, 4) for doubt in doubts],
        share=judged.share,
        tokens=len(flags),
        cloud_tokens=sum(flags),
        seconds=judged.seconds,
        signals=dict(signals),
        answer=answer,
    )
