"""Runs tasks: every item with every variant, several items at once, results kept as they come."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from updraft.errors import InvalidRequest, PromptTooLong, Withheld
from updraft.evaluation.results import Key, Results
from updraft.evaluation.subject import Subject
from updraft.evaluation.tasks.base import Item, Outcome, Task, TaskOptions
from updraft.evaluation.variants import CLOUD, EDGE, Variant, digest
from updraft.modes import Mode
from updraft.sampling import SamplingParams

__all__ = ["Progress", "Run", "TaskRun", "choose_items", "run_task"]

Progress = Callable[[str], None]
"""Told after every item and variant: the task's name."""


@dataclass(frozen=True, slots=True)
class Run:
    """What all tasks of a run share.

    Attributes:
        variants: policies; edge only and cloud only are always added.
        limit: items of each task, at most; the first ones unless `shuffle`.
        together: items at once.
        router: tells results of one router from those of another.
    """

    data: Path
    variants: Sequence[Variant]
    options: TaskOptions
    sampling: SamplingParams
    limit: int | None = None
    shuffle: bool = False
    together: int = 2
    router: str | None = None

    def of(self, task: Task) -> list[Variant]:
        """The variants that a task can judge, the cloud first, because others are compared with it."""
        possible = [v for v in self.variants if not task.given or v.mode in (Mode.EDGE, Mode.CLOUD, Mode.SPAN)]
        return list(dict.fromkeys([CLOUD, EDGE, *possible]))


@dataclass(slots=True)
class TaskRun:
    """A task's outcomes: those of one item stand at one place in every list.

    Attributes:
        skipped: ids of items that did not fit the context of a model, or that a rule keeps on the device.
    """

    task: Task
    items: list[str] = field(default_factory=list)
    outcomes: dict[Variant, list[Outcome]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def choose_items(run: Run, task: Task) -> list[Item[Any]]:
    """The items of a run, in the order of the file.

    Raises:
        InvalidRequest: a data file is missing, malformed or empty.
    """
    items = task.items(run.data)
    if not items:
        raise InvalidRequest(f"The task {task.name} has no items.", param="task")
    if run.limit is None or run.limit >= len(items):
        return items
    if not run.shuffle:
        return items[: run.limit]
    chosen = random.Random(run.sampling.seed or 0).sample(range(len(items)), run.limit)
    return [items[place] for place in sorted(chosen)]


async def run_task(
    run: Run,
    task: Task,
    items: Sequence[Item[Any]],
    subject: Callable[[Variant], Subject],
    results: Results,
    progress: Progress,
) -> TaskRun:
    """Run what is not in the results yet.

    Raises:
        UpdraftError: what the agent raises; what was done until then is in the results.
    """
    variants = run.of(task)
    keys = {variant: digest(variant.settings, run.options, run.sampling, run.router) for variant in variants}
    places = asyncio.Semaphore(run.together)
    done = TaskRun(task)

    async def one(item: Item[Any]) -> list[Outcome] | None:
        async with places:
            try:
                return await _all_variants(task, item, keys, subject, results, progress)
            except (PromptTooLong, Withheld):
                return None

    jobs = [asyncio.ensure_future(one(item)) for item in items]
    try:
        found = await asyncio.gather(*jobs)
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
    done.outcomes = {variant: [] for variant in variants}
    for item, outcomes in zip(items, found, strict=True):
        if outcomes is None:
            done.skipped.append(item.id)
            continue
        done.items.append(item.id)
        for variant, outcome in zip(variants, outcomes, strict=True):
            done.outcomes[variant].append(outcome)
    if not done.items:
        raise PromptTooLong(f"No item of {task.name} fits the context.", remedy="Give a larger --context.")
    return done


async def _all_variants(
    task: Task,
    item: Item[Any],
    keys: dict[Variant, str],
    subject: Callable[[Variant], Subject],
    results: Results,
    progress: Progress,
) -> list[Outcome]:
    """One item; what it is compared with is asked for once, and only if something is left to do."""
    reference: Outcome | None = None
    outcomes = []
    for variant, settings in keys.items():
        key = Key(task.name, item.id, settings)
        if key not in results:
            if reference is None and (task.given or variant is not CLOUD):
                reference = await task.refer(item, subject(CLOUD))
            results.add(key, variant.name, await task.run(item, subject(variant), reference))
        outcome = results[key]
        if variant is CLOUD and outcome.token_ids and not task.given:
            reference = outcome
        outcomes.append(outcome)
        progress(task.name)
    return outcomes
