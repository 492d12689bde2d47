"""`updraft bench edge`: what the agent costs above the loops that it could be replaced with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from updraft.errors import ConfigError

from .figures import Spread, rate, whole_rate
from .loop_process import LoopProcess
from .loops import LOOP_NAMES, BareLoop, LoopOptions, Written
from .prompts import first_prompts
from .report import Step, table_of
from .tiers import machine_cores

__all__ = ["GOAL", "EdgeBench", "compared"]

GOAL: Final = 0.95  # of either baseline's tokens a second
_REST_S: Final = 0.05  # idle threads of the last loop spin for a moment

Rounds = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class EdgeBench:
    """Agent, bare loop and high-level loop take turns, prompt by prompt, on the same prompts and threads.

    Each has a process of its own, which idles while another writes.

    Attributes:
        sequences: sequences of the agent's engine, as it serves; the loops have one.
        threads: of each engine; one for each usable core when None.
    """

    prompts: int = 4
    tokens: int = 128
    rounds: int = 7
    model: str = "smollm2-q4_0"
    context: int = 1024
    sequences: int = 8
    batch_tokens: int = 512
    threads: int | None = None
    name = "edge"

    def __post_init__(self) -> None:
        first_prompts(self.prompts)

    @property
    def steps(self) -> int:
        return 1 + self.rounds

    async def measure(self, step: Step) -> dict[str, Any]:
        threads = self.threads or len(machine_cores())
        options = LoopOptions(self.model, self.context, self.sequences, threads, self.batch_tokens)
        async with AsyncExitStack() as stack:
            agent, *others = [LoopProcess(kind, options) for kind in LOOP_NAMES]
            await stack.enter_async_context(agent)
            prompts = [await agent.encode(prompt) for prompt in first_prompts(self.prompts)]
            if max(map(len, prompts)) + self.tokens > self.context:
                raise ConfigError(
                    f"{self.tokens} tokens after the longest prompt do not fit a context of {self.context}."
                )
            for loop in others:
                await stack.enter_async_context(loop)
            loops = [agent, *others]
            for loop in loops:
                await loop.write(prompts[0], min(8, self.tokens))
            step("warmed up")
            return await self._rounds(loops, prompts, threads, step)

    async def _rounds(
        self, loops: list[LoopProcess], prompts: list[list[int]], threads: int, step: Step
    ) -> dict[str, Any]:
        rounds: dict[str, list[float]] = {loop.name: [] for loop in loops}
        whole: dict[str, list[float]] = {loop.name: [] for loop in loops}
        same = {loop.name: 0 for loop in loops}
        for number in range(self.rounds):
            written: dict[str, list[Written]] = {loop.name: [] for loop in loops}
            for place, prompt in enumerate(prompts):
                first = (number + place) % len(loops)
                for loop in [*loops[first:], *loops[:first]]:
                    await asyncio.sleep(_REST_S)
                    written[loop.name].append(await loop.write(prompt, self.tokens))
            agents = written[loops[0].name]
            for loop in loops:
                arrivals = [one.arrivals for one in written[loop.name]]
                rounds[loop.name].append(rate(arrivals))
                whole[loop.name].append(whole_rate(arrivals))
                pairs = zip(written[loop.name], agents, strict=True)
                same[loop.name] += sum(one.tokens == agent.tokens for one, agent in pairs)
            step(f"round {number + 1}: " + ", ".join(f"{rounds[loop.name][-1]:.1f}" for loop in loops) + " tokens/s")
        rows = compared(rounds)
        for row, all_of_it in zip(rows, compared(whole), strict=True):
            row["whole_answer"] = all_of_it
            row["same_as_agent"] = same[row["loop"]]
        return {
            "threads": threads,
            "texts": self.rounds * len(prompts),
            "loops": rows,
            "goal": GOAL,
            "goal_met": all(row["agent_ratio"]["median"] >= GOAL for row in rows),
            "passed": same[BareLoop.name] == self.rounds * len(prompts),
        }

    def tables(self, results: dict[str, Any]) -> list[Table]:
        rows = [
            {
                "loop": row["loop"],
                "rate": str(Spread(**row["tokens_per_second"])),
                "ratio": str(Spread(**row["agent_ratio"])),
                "whole": str(Spread(**row["whole_answer"]["agent_ratio"])),
                "same": f"{row['same_as_agent']}/{results['texts']}",
            }
            for row in results["loops"]
        ]
        title = (
            f"{self.model}, {results['threads']} threads, {self.prompts} prompts x {self.tokens} tokens, "
            f"{self.rounds} rounds, greedy; after the first token. Goal: agent at least {GOAL:g} of either loop: "
            f"{'met' if results['goal_met'] else 'missed'}"
        )
        columns = {
            "loop": ("loop", ""),
            "rate": ("tokens/s: median (range)", ""),
            "ratio": ("agent / loop, by round", ""),
            "whole": ("the same with the prompt", ""),
            "same": ("same text as agent", ""),
        }
        return [table_of(title, rows, columns)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        return False


def compared(rounds: Rounds) -> list[dict[str, Any]]:
    """A row for each loop: the spread of its rates, and of the first loop's rate over its own, round by round."""
    agent = next(iter(rounds.values()))
    return [
        {
            "loop": name,
            "rounds": list(rates),
            "tokens_per_second": asdict(Spread.of(rates)),
            "agent_ratio": asdict(Spread.of([mine / its for mine, its in zip(agent, rates, strict=True)])),
        }
        for name, rates in rounds.items()
    ]
