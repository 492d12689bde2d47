"""`updraft bench lookup`: looked-up drafts, alone and before the edge's model, on texts that quote their prompts.

The baseline is mode `cloud` on the same link; every other way must write the same text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from updraft.engine import open_engine
from updraft.errors import ConfigError
from updraft.modes import Mode, ModeSettings, parse_settings
from updraft_edge.agent import Agent

from .figures import Observed, observe, same_answers, summary
from .relay import Relay
from .report import Step, table_of
from .stopping_record import TASKS, Asked, choose, read_questions
from .tiers import cloud_process, edge_settings, pin_apart, question, relay_to

__all__ = ["WAYS", "LookupBench", "rows_of"]

_SETTLE_S: Final = 0.2
_PATIENCE_S: Final = 60.0
_QUESTIONS: Final = Path("spec_bench/question.jsonl")

WAYS: Final[dict[str, dict[str, Any]]] = {
    "cloud (baseline)": {"mode": "cloud"},
    "lookup": {"mode": "lookup"},
    "lookup, 1 branch": {"mode": "lookup", "lookup": {"branches": 1}},
    "lookup, 4 branches": {"mode": "lookup", "lookup": {"branches": 4}},
    "lookup, no past": {"mode": "lookup", "lookup": {"remember": False}},
    "edge model": {"mode": "draft"},
    "lookup before it": {"mode": "draft", "lookup": {"before_model": True}},
}
"""What is compared; all of it is lossless."""

_COLUMNS: Final = {
    "round_trip_ms": ("RTT ms", "g"),
    "task": ("task", ""),
    "way": ("drafts", ""),
    "cloud_passes_per_token": ("cloud passes/token", ".3f"),
    "cloud_positions_per_token": ("positions/token", ".2f"),
    "accepted_length": ("accepted a verdict", ".2f"),
    "lookup_share": ("looked up", ".0%"),
    "lookup_stood": ("of it stood", ".0%"),
    "decode_ms_per_token": ("ms/token", ".1f"),
    "vs_cloud": ("x cloud", ".2f"),
    "same": ("text as cloud", ""),
    "degraded": ("degraded", "d"),
}


@dataclass(slots=True)
class _Lane:
    """A way with an agent of its own, so that what it learns is its own too."""

    way: str
    settings: ModeSettings
    agent: Agent
    answers: list[Observed] = field(default_factory=list)


@dataclass(frozen=True)
class LookupBench:
    """Ways take turns prompt by prompt, over one link.

    Attributes:
        data: folder with Spec-Bench in it; the built-in prompts when None.
        tasks: of Spec-Bench.
        ways: of `WAYS`; the baseline is always measured.
        each: prompts of a task.
        longest_prompt: tokens.
    """

    data: Path | None = None
    tasks: tuple[str, ...] = ("summarization", "rag")
    ways: tuple[str, ...] = tuple(WAYS)
    round_trips_ms: tuple[float, ...] = (0.0, 40.0)
    each: int = 3
    tokens: int = 64
    temperature: float = 0.0
    longest_prompt: int = 800
    edge_model: str = "smollm2-q4_0"
    cloud_model: str = "smollm2"
    context: int = 1024
    pin: bool = True
    name = "lookup"

    def __post_init__(self) -> None:
        if not self.round_trips_ms or min(self.round_trips_ms) < 0.0:
            raise ConfigError(f"round trips are {self.round_trips_ms}; give at least one, none below 0.")
        for way in self.ways:
            if way not in WAYS:
                raise ConfigError(f"There is no way {way!r}.", remedy=f"Name one of: {'; '.join(WAYS)}.")
        for task in self.tasks:
            if task not in TASKS:
                raise ConfigError(f"Spec-Bench has no task {task!r}.", remedy=f"Name one of: {', '.join(TASKS)}.")
        if self.longest_prompt + self.tokens >= self.context:
            raise ConfigError(f"{self.longest_prompt} + {self.tokens} tokens do not fit a context of {self.context}.")

    @property
    def _ways(self) -> list[str]:
        return [way for way in WAYS if way in self.ways or WAYS[way]["mode"] == Mode.CLOUD]

    @property
    def steps(self) -> int:
        tasks = 1 if self.data is None else len(self.tasks)
        return 1 + len(self.round_trips_ms) * len(self._ways) * tasks * self.each

    async def measure(self, step: Step) -> dict[str, Any]:
        edge_cores, cloud_cores = pin_apart(self.pin)
        asked = await asyncio.to_thread(self._asked)
        rows: list[dict[str, Any]] = []
        cloud_settings: dict[str, Any] = {"context": self.context, "sequences": 16, "cores": cloud_cores}
        async with cloud_process(self.cloud_model, **cloud_settings) as cloud, AsyncExitStack() as stack:
            step("the cloud serves")
            relay = await stack.enter_async_context(relay_to(cloud.address, round_trip_s=0.0))
            for round_trip_ms in self.round_trips_ms:
                rows += await self._over_link(relay, round_trip_ms, asked, step)
        passed = all(row["same_as_cloud"] == row["answers"] and not row["degraded"] for row in rows)
        prompts = {task: sum(one.task == task for one in asked) for task in dict.fromkeys(one.task for one in asked)}
        cores = {"edge_cores": edge_cores, "cloud_cores": cloud_cores}
        return {**cores, "prompts": prompts, "rows": rows, "passed": passed}

    def _asked(self) -> list[Asked]:
        """The prompts; the engine is there for its tokenizer."""
        engine = open_engine(self.edge_model, context=64, sequences=1)
        try:
            questions = read_questions(None if self.data is None else self.data / _QUESTIONS)
            wanted = [one for one in questions if self.data is None or one.task in self.tasks]
            return choose(wanted, engine, self.each, self.longest_prompt)
        finally:
            engine.shutdown()

    async def _over_link(
        self, relay: Relay, round_trip_ms: float, asked: Sequence[Asked], step: Step
    ) -> list[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            lanes = [await self._lane(stack, way, relay) for way in self._ways]
            relay.set_delay(round_trip_ms / 2e3)
            await asyncio.sleep(_SETTLE_S)
            for number, one in enumerate(asked):
                turn = number % len(lanes)
                for lane in [*lanes[turn:], *lanes[:turn]]:
                    lane.answers.append(await self._answer(lane.agent, lane.settings, one.prompt, self.tokens))
                    step(f"{round_trip_ms:g} ms, {one.task}, {lane.way}")
        relay.set_delay(0.0)
        found: list[dict[str, Any]] = []
        for task in dict.fromkeys(one.task for one in asked):
            places = [place for place, one in enumerate(asked) if one.task == task]
            answers = {lane.way: [lane.answers[place] for place in places] for lane in lanes}
            found += [{"round_trip_ms": round_trip_ms, "task": task} | row for row in rows_of(answers)]
        return found

    async def _lane(self, stack: AsyncExitStack, way: str, relay: Relay) -> _Lane:
        settings = parse_settings(WAYS[way])
        edge = edge_settings(self.edge_model, address=relay.address, context=self.context, sequences=1)
        # A long prompt takes a slow cloud seconds before its first verdict, and an answer that degrades says nothing.
        patient = edge.cloud.model_copy(update={"reply_timeout_s": _PATIENCE_S})
        agent = await stack.enter_async_context(Agent(edge.model_copy(update={"cloud": patient})))
        await self._answer(agent, settings, "Hello.", min(8, self.tokens))  # connects, and warms the caches
        return _Lane(way, settings, agent)

    async def _answer(self, agent: Agent, settings: ModeSettings, prompt: str, tokens: int) -> Observed:
        return await observe(agent, question(prompt, settings, tokens=tokens, temperature=self.temperature, seed=1))

    def tables(self, results: dict[str, Any]) -> list[Table]:
        title = (
            f"Looked-up drafts, {self.edge_model} and {self.cloud_model} on one machine, prompts "
            f"{', '.join(f'{count} of {task}' for task, count in results['prompts'].items())}, up to {self.tokens} "
            f"tokens, temperature {self.temperature:g}; baseline: mode cloud at the same round trip"
        )
        return [table_of(title, results["rows"], _COLUMNS)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        from .lookup_plot import plot_lookup

        plot_lookup(results["rows"], path, subtitle=f"{self.edge_model} and {self.cloud_model}")
        return True


def rows_of(answers: dict[str, list[Observed]]) -> list[dict[str, Any]]:
    """A row a way; the first is the baseline that the others are compared with."""
    baseline = next(iter(answers.values()))
    rows = []
    for way, own in answers.items():
        measured = summary(own)
        counts = [answer.completion.statistics for answer in own]
        tokens = sum(count.tokens for count in counts)
        verdicts = sum(count.round_trips for count in counts)
        looked_up = sum(count.lookup_drafted for count in counts)
        stood = sum(count.lookup_accepted for count in counts)
        rate = measured["tokens_per_second"]
        same = same_answers(own, baseline)
        rows.append(
            {
                "way": way,
                **measured,
                "accepted_length": sum(count.accepted for count in counts) / max(1, verdicts),
                "lookup_share": stood / max(1, tokens),
                "lookup_stood": stood / looked_up if looked_up else None,
                "decode_ms_per_token": 1e3 / rate if rate else 0.0,
                "same_as_cloud": same,
                "same": f"{same}/{len(own)}",
            }
        )
    for row in rows:
        slow = rows[0]["tokens_per_second"]
        row["vs_cloud"] = row["tokens_per_second"] / slow if slow else None
    return rows
