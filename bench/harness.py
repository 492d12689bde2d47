"""`updraft bench harness`: lm-evaluation-harness, unmodified, and `updraft eval` on the same items of one agent."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from updraft.config import ListenSettings
from updraft.errors import ConfigError
from updraft.evaluation.subject import AgentSubject, ScoreMemory
from updraft.evaluation.tasks.base import TaskOptions
from updraft.evaluation.tasks.choices import ChoiceLikelihood
from updraft.modes import Mode, ModeSettings
from updraft.sampling import SamplingParams
from updraft_edge.agent import Agent
from updraft_edge.server import EdgeServer

from .lm_eval import HarnessItem, find_harness, run_harness, task_file
from .report import Step, table_of
from .tiers import cloud_process, edge_settings

__all__ = ["HarnessBench", "compared"]


@dataclass(frozen=True)
class HarnessBench:
    """Multiple choice by likelihood, judged by the edge and by the cloud; prompts as texts and as token ids.

    Attributes:
        data: folder with `multiple_choice/TASK.jsonl`.
        lm_eval: the harness's command, in an environment of its own; the one on the path when None.
        limit: items.
    """

    data: Path | None = None
    lm_eval: Path | None = None
    task: str = "arc_easy"
    limit: int = 100
    model: str = "smollm2-q4_0"
    cloud_model: str = "smollm2"
    context: int = 2048
    name = "harness"

    def __post_init__(self) -> None:
        if self.data is None:
            raise ConfigError("bench harness needs items.", remedy="Name the folder that holds them: --data DIR.")
        if self.limit < 1:
            raise ConfigError(f"limit is {self.limit}; it must be at least 1.")

    @property
    def steps(self) -> int:
        return 7

    async def measure(self, step: Step) -> dict[str, Any]:
        command = find_harness(self.lm_eval)
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="updraft-harness-")))
            self._write_items(folder)
            cloud = await stack.enter_async_context(cloud_process(self.cloud_model, context=self.context))
            step("the cloud serves")
            rows = []
            for mode in (Mode.EDGE, Mode.CLOUD):
                rows += await self._judged_by(mode, cloud.address, folder, command, step)
        return {"rows": rows, "passed": all(row["same_items"] == row["items"] for row in rows)}

    def _write_items(self, folder: Path) -> None:
        source = Path(self.data or "") / "multiple_choice" / f"{self.task}.jsonl"
        try:
            lines = source.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ConfigError(f"{source} cannot be read: {error.strerror}.") from None
        (folder / "multiple_choice").mkdir()
        task_file(lines[: self.limit], folder)
        (folder / "multiple_choice" / "items.jsonl").write_bytes((folder / "items.jsonl").read_bytes())

    async def _judged_by(
        self, mode: Mode, address: str, folder: Path, command: Path, step: Step
    ) -> list[dict[str, Any]]:
        listen = ListenSettings(port=0)
        settings = edge_settings(
            self.model, address=address, context=self.context, sequences=8, http=listen, grpc=listen,
            mode=ModeSettings(mode=mode),
        )  # fmt: skip
        async with Agent(settings) as agent, EdgeServer(settings, agent=agent) as server:
            ours = await self._ours(agent, settings.mode, folder)
            step(f"judged by the {mode}: updraft eval")
            rows = []
            for as_tokens in (True, False):
                theirs = await run_harness(command, server.http_address, agent.model, folder, as_tokens=as_tokens)
                kind = "token ids" if as_tokens else "texts"
                rows.append({"judge": mode.value, "prompts": kind, **compared(ours, theirs)})
                step(f"judged by the {mode}: lm-evaluation-harness, prompts as {kind}")
            return rows

    async def _ours(self, agent: Agent, settings: ModeSettings, folder: Path) -> list[HarnessItem]:
        """What `updraft eval` finds, with the options' likelihoods that it decides by."""
        task = ChoiceLikelihood(self.task, "items.jsonl", TaskOptions())
        subject = AgentSubject(agent, settings, SamplingParams(seed=0), ScoreMemory(agent))
        found = []
        for item in task.items(folder):
            outcome = await task.run(item, subject, None)
            judged = await subject.score(item.content.context, [f" {choice}" for choice in item.content.choices])
            sums = tuple(sum(token.logprob for token in option) for option in judged.options)
            found.append(HarnessItem(outcome.score, outcome.measures["acc_norm"], sums))
        return found

    def tables(self, results: dict[str, Any]) -> list[Table]:
        rows = [
            {
                "judge": row["judge"],
                "prompts": row["prompts"],
                "acc": f"{row['acc']:.1%} / {row['acc_harness']:.1%}",
                "norm": f"{row['acc_norm']:.1%} / {row['acc_norm_harness']:.1%}",
                "same": f"{row['same_items']}/{row['items']}",
                "far": f"{row['largest_difference']:.1e}",
            }
            for row in results["rows"]
        ]
        columns = {
            "judge": ("judged by", ""),
            "prompts": ("prompts as", ""),
            "acc": ("acc: updraft eval / lm-eval", ""),
            "norm": ("acc_norm", ""),
            "same": ("same items", ""),
            "far": ("largest difference of a likelihood, nats", ""),
        }
        title = f"{self.task}, {results['rows'][0]['items']} items; edge {self.model}, cloud {self.cloud_model}"
        return [table_of(title, rows, columns)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        return False


def compared(ours: list[HarnessItem], theirs: list[HarnessItem]) -> dict[str, Any]:
    """Both means of both scores, on how many items both scores are the same, and how far likelihoods are apart."""
    pairs = list(zip(ours, theirs, strict=True))
    gaps = [abs(a - b) for one, two in pairs for a, b in zip(one.likelihoods, two.likelihoods, strict=True)]
    return {
        "items": len(pairs),
        "acc": sum(item.acc for item in ours) / len(ours),
        "acc_harness": sum(item.acc for item in theirs) / len(theirs),
        "acc_norm": sum(item.acc_norm for item in ours) / len(ours),
        "acc_norm_harness": sum(item.acc_norm for item in theirs) / len(theirs),
        "same_items": sum(one.acc == two.acc and one.acc_norm == two.acc_norm for one, two in pairs),
        "largest_difference": max(gaps),
    }
