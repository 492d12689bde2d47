"""A whole evaluation: tasks, pair, results and report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from updraft.evaluation.analysis import analyse
from updraft.evaluation.findings import TaskReport, verdict
from updraft.evaluation.results import Results
from updraft.evaluation.runner import Run, TaskRun, choose_items, run_task
from updraft.evaluation.tasks import make_task
from updraft.evaluation.tiers import PairOptions, open_pair, running_pair

__all__ = ["Evaluation", "Findings", "Watcher"]


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told how far it is.

    Attributes:
        say: a line on what is being prepared.
        begin: a task with its number of steps, and how many of them are known from the results file.
        step: one step of a task is done.
    """

    say: Callable[[str], None]
    begin: Callable[[str, int], None]
    step: Callable[[str], None]


@dataclass(slots=True)
class Findings:
    """What an evaluation found."""

    pair: str
    identity: dict[str, str]
    sampling: str
    reports: list[TaskReport] = field(default_factory=list)
    resumed: int = 0
    seconds: float = 0.0

    def record(self) -> dict[str, Any]:
        return {
            "pair": self.identity,
            "sampling": self.sampling,
            "resumed": self.resumed,
            "seconds": self.seconds,
            "tasks": [report.record() for report in self.reports],
            "verdicts": {report.task: [verdict(curve) for curve in report.curves] for report in self.reports},
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What to evaluate.

    Attributes:
        agent: address of a running agent, in place of the pair's models.
        results: file of results per item; None keeps none.
    """

    tasks: Sequence[str]
    run: Run
    pair: PairOptions
    agent: str | None = None
    results: Path | None = None
    keep_text: bool = False

    async def measure(self, watcher: Watcher) -> Findings:
        """Run everything that the results file does not know yet.

        Raises:
            InvalidRequest: a task, data file, policy or results file is not right.
            UpdraftError: what agent and cloud raise; results until then are kept.
        """
        tasks = [make_task(name, self.run.options) for name in dict.fromkeys(self.tasks)]
        chosen = {task.name: choose_items(self.run, task) for task in tasks}  # bad data is said before models load
        started = time.perf_counter()
        opening = running_pair(self.agent, self.run.sampling) if self.agent else self._open(watcher)
        async with opening as pair:
            sampling = self.run.sampling
            how = "greedy" if sampling.temperature == 0.0 else f"temperature {sampling.temperature:g}"
            found = Findings(pair.title, pair.identity, f"{how}, seed {sampling.seed}")
            with Results(self.results, pair.identity, keep_text=self.keep_text) as results:
                for task in tasks:
                    watcher.begin(task.name, len(chosen[task.name]) * len(self.run.of(task)))
                    done = await run_task(self.run, task, chosen[task.name], pair.subject, results, watcher.step)
                    found.reports.append(self._analysed(done))
                found.resumed = results.resumed
        found.seconds = time.perf_counter() - started
        return found

    def _open(self, watcher: Watcher) -> Any:
        return open_pair(self.pair, self.run.sampling, watcher.say)

    def _analysed(self, done: TaskRun) -> TaskReport:
        return analyse(done, seed=self.run.sampling.seed or 0)
