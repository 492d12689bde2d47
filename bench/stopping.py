"""`updraft bench stopping`: stop rules against every fixed length, on Spec-Bench prompts, over links of several round
trips: some real answers, and an exact replay of many (`stopping_replay`) with the costs that the real ones had."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table

from updraft.engine import open_engine
from updraft.errors import ConfigError
from updraft.modes import ModeSettings, parse_settings
from updraft_edge.agent import Agent
from updraft_edge.stopping.costs import Costs

from .figures import Observed, observe
from .relay import Relay
from .report import Step
from .stopping_figures import Lane, real_rows, replay_rows, stopping_tables, summarise
from .stopping_record import Asked, choose, read_questions, record, verify_times, write_cloud_texts
from .stopping_replay import Machine, Recording
from .stopping_rules import Rule, rules_of
from .tiers import cloud_process, edge_settings, pin_apart, question, relay_to

__all__ = ["StoppingBench"]

_SETTLE_S: Final = 0.2
_QUESTIONS: Final = Path("spec_bench/question.jsonl")


@dataclass(slots=True)
class _Drafter:
    """One edge model: what it drafts along the cloud's text, and its agents."""

    model: str
    recordings: list[Recording] = field(default_factory=list)
    draft_s: float = 0.0
    lanes: list[Lane] = field(default_factory=list)


@dataclass(frozen=True)
class StoppingBench:
    """Rules take turns prompt by prompt, each with an agent of its own that learns for itself.

    Attributes:
        data: folder with Spec-Bench in it; the built-in prompts when None.
        drafters: edge models.
        heads: acceptance heads, as MODEL=FILE.
        modes: other modes that answer the real prompts, too, such as `lookup`.
        lengths: fixed lengths; those of `real_lengths` among them (all, if none is) are answered with, too.
        each: prompts of every task that are replayed; `real` of them are answered.
        longest_prompt, longest_real: tokens of a prompt, at most.
    """

    data: Path | None = None
    drafters: tuple[str, ...] = ("smollm2-q4_0", "smollm2-student")
    cloud_model: str = "smollm2"
    heads: tuple[str, ...] = ()
    round_trips_ms: tuple[float, ...] = (0.0, 20.0, 40.0, 80.0)
    lengths: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 10, 12, 16)
    real_lengths: tuple[int, ...] = (2, 4, 8, 16)
    entropy: float = 2.0
    modes: tuple[str, ...] = ()
    each: int = 4
    real: int = 1
    tokens: int = 48
    longest_prompt: int = 640
    longest_real: int = 120
    context: int = 1024
    pin: bool = True
    name = "stopping"

    def __post_init__(self) -> None:
        if not self.drafters or not self.round_trips_ms or min(self.round_trips_ms) < 0.0:
            raise ConfigError("Give at least one drafter and one round trip, none below 0 ms.")
        if len(self.lengths) < 2 or not all(1 <= length <= 48 for length in self.lengths):
            raise ConfigError(f"lengths are {self.lengths}; give at least two, each from 1 to 48.")
        if self.longest_prompt + self.tokens >= self.context:
            raise ConfigError(f"{self.longest_prompt} + {self.tokens} tokens do not fit a context of {self.context}.")
        for head in self.heads:
            if head.partition("=")[0] not in self.drafters or not head.partition("=")[2]:
                raise ConfigError(f"The head {head!r} is not DRAFTER=FILE with one of {', '.join(self.drafters)}.")

    @property
    def _questions(self) -> list[Asked]:
        return read_questions(None if self.data is None else self.data / _QUESTIONS)

    @property
    def steps(self) -> int:
        """At most: prompts that are too long are left out."""
        tasks = len({asked.task for asked in self._questions})
        replayed = tasks * self.each * (1 + len(self.drafters))
        lanes = sum(len(self._real_rules(model)) + len(self.modes) for model in self.drafters)
        return replayed + lanes * tasks * self.real * len(self._trips) + 1

    def _rules(self, model: str) -> list[Rule]:
        heads = dict(head.split("=", 1) for head in self.heads)
        return rules_of(self.lengths, self.entropy, Path(heads[model]) if model in heads else None)

    def _real_rules(self, model: str) -> list[Rule]:
        wanted = set(self.real_lengths) & set(self.lengths) or set(self.lengths)
        return [rule for rule in self._rules(model) if rule.length is None or rule.length in wanted]

    async def measure(self, step: Step) -> dict[str, Any]:
        edge_cores, cloud_cores = pin_apart(self.pin)
        drafters, verify_s, asked = await asyncio.to_thread(self._record, step)
        real = [one for one in _first_of_each(asked, self.real) if len(one.prompt) <= 6 * self.longest_real]
        async with cloud_process(self.cloud_model, context=self.context, sequences=64, cores=cloud_cores) as cloud:
            step("the cloud serves")
            for drafter in drafters:
                await self._answer_all(drafter, real, cloud.address, step)
        rows: list[dict[str, Any]] = []
        observed: list[dict[str, Any]] = []
        for drafter in drafters:
            machine = machine_of(drafter.lanes, drafter.draft_s, verify_s, self.round_trips_ms)
            replayed = replay_rows(drafter.model, self._rules(drafter.model), drafter.recordings, machine, self._trips)
            places = [asked.index(one) for one in real]
            same = [drafter.recordings[place] for place in places]
            rows += replayed
            observed += real_rows(drafter.model, drafter.lanes, same, machine, self._trips)
        cores = {"edge_cores": edge_cores, "cloud_cores": cloud_cores}
        prompts = {task: sum(one.task == task for one in asked) for task in dict.fromkeys(one.task for one in asked)}
        accepted = {drafter.model: float(np.mean([r.share for r in drafter.recordings])) for drafter in drafters}
        facts = {**cores, "prompts": prompts, "real_prompts": len(real), "agreement": accepted}
        return facts | summarise(rows) | {"rows": rows, "real": observed}

    @property
    def _trips(self) -> tuple[float, ...]:
        return tuple(dict.fromkeys(self.round_trips_ms))

    def _record(self, step: Step) -> tuple[list[_Drafter], tuple[float, ...], list[Asked]]:
        """What every drafter drafts along the cloud's text, and what the cloud's passes take."""
        cloud = open_engine(self.cloud_model, context=self.context, sequences=8, **_threads(self.pin))
        try:
            asked = choose(self._questions, cloud, self.each, self.longest_prompt)
            texts = write_cloud_texts(cloud, asked, self.tokens, step)
            verify_s = verify_times(cloud, texts[0], max(self.lengths) + 1)
        finally:
            cloud.shutdown()
        drafters = []
        for model in self.drafters:
            drafter, times = _Drafter(model), []
            edge = open_engine(model, context=self.context, sequences=1, **_threads(self.pin))
            hidden = any(rule.head is not None for rule in self._rules(model))
            try:
                for text, one in zip(texts, asked, strict=True):
                    recording, took = record(edge, text, tail=max(self.lengths), hidden=hidden)
                    drafter.recordings.append(recording)
                    times += took
                    step(f"drafts of {model}, {one.task}")
            finally:
                edge.shutdown()
            drafter.draft_s = float(np.median(times))
            drafters.append(drafter)
        gc.collect()
        return drafters, verify_s, asked

    async def _answer_all(self, drafter: _Drafter, real: Sequence[Asked], address: str, step: Step) -> None:
        async with AsyncExitStack() as stack:
            relay = await stack.enter_async_context(relay_to(address, round_trip_s=0.0))
            for rule in self._real_rules(drafter.model):
                drafter.lanes.append(await self._lane(stack, drafter.model, rule.name, rule.settings, relay, rule.head))
            for mode in self.modes:
                settings = parse_settings({"mode": mode})
                drafter.lanes.append(await self._lane(stack, drafter.model, mode, settings, relay, None))
            for round_trip_ms in self._trips:
                await asyncio.sleep(_SETTLE_S)
                relay.set_delay(round_trip_ms / 2e3)
                for number, one in enumerate(real):
                    turn = number % len(drafter.lanes)
                    for lane in [*drafter.lanes[turn:], *drafter.lanes[:turn]]:
                        answer = await self._answer(lane.agent, lane.settings, one.prompt, self.tokens)
                        lane.answers.setdefault(round_trip_ms, []).append(answer)
                        step(f"{drafter.model}, {round_trip_ms:g} ms, {lane.name}")
                for lane in drafter.lanes:
                    lane.costs[round_trip_ms] = _noted(lane.agent.costs)

    async def _lane(
        self, stack: AsyncExitStack, model: str, name: str, settings: ModeSettings, relay: Relay, head: Path | None
    ) -> Lane:
        more = {} if head is None else {"acceptance_head": head}
        edge = edge_settings(model, address=relay.address, context=self.context, sequences=1, **more)
        agent = await stack.enter_async_context(Agent(edge))
        await self._answer(agent, settings, "Hello.", min(8, self.tokens))  # connects, and warms the caches
        return Lane(name, settings, agent)

    async def _answer(self, agent: Agent, settings: ModeSettings, prompt: str, tokens: int) -> Observed:
        return await observe(agent, question(prompt, settings, tokens=tokens))

    def tables(self, results: dict[str, Any]) -> list[Table]:
        prompts = sum(results["prompts"].values())
        return stopping_tables(results, f"{prompts} prompts x {self.tokens} tokens, greedy, cloud {self.cloud_model}")

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        from .stopping_plot import plot_stopping

        plot_stopping(results["rows"], path, subtitle=f"cloud {self.cloud_model}, greedy, replayed with measured costs")
        return True


def machine_of(
    lanes: Sequence[Lane], draft_s: float, verify_s: Sequence[float], round_trips_ms: Sequence[float]
) -> Machine:
    """Costs as the agents measured them while they answered; the shape of the passes' times is that of `verify_s`.

    While both tiers work, everything takes longer than alone: the passes are scaled to what the cloud reported.
    """
    costs = [found for lane in lanes for found in lane.costs.values() if found["verdicts"] > 4]
    if not costs:
        return Machine(draft_s, tuple(verify_s))
    scales = [
        found["worked_s"] / float(np.interp(found["positions"], np.arange(1, len(verify_s) + 1), verify_s))
        for found in costs
    ]
    overheads = [
        lane.costs[trip]["network_s"] - trip / 1e3
        for lane in lanes
        for trip in round_trips_ms
        if trip in lane.costs and lane.costs[trip]["verdicts"] > 4
    ]
    scale = float(np.median(scales))
    drafts = float(np.median([found["draft_s"] for found in costs]))
    return Machine(drafts, tuple(scale * seconds for seconds in verify_s), max(0.0, float(np.median(overheads))))


def _noted(costs: Costs) -> dict[str, float]:
    """A copy of what an agent has measured so far."""
    return {
        "draft_s": costs.draft_s,
        "network_s": costs.network_s,
        "positions": costs.positions,
        "worked_s": costs.worked_s,
        "verdicts": costs.verdicts,
    }


def _first_of_each(asked: Sequence[Asked], count: int) -> list[Asked]:
    """The first few prompts of every task."""
    found: dict[str, list[Asked]] = {}
    for one in asked:
        found.setdefault(one.task, []).append(one)
    return [one for own in found.values() for one in own[:count]]


def _threads(pin: bool) -> dict[str, Any]:
    from .tiers import machine_cores

    return {"threads": len(machine_cores())} if pin else {}
