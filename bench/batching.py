"""`updraft bench batching`: the engine's batched throughput against a bare llama.cpp loop, and what the loop costs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from updraft.engine import open_engine
from updraft.engine.checks import ContextOptions
from updraft.engine.loop import PassRecord
from updraft.errors import ConfigError
from updraft.sampling import SamplingParams

from .batch_loops import BareBatches, LoopBatches, Shape
from .batch_sessions import SessionsRun, session_rows
from .figures import Spread
from .prompts import first_prompts
from .report import Step, table_of
from .tiers import machine_cores

__all__ = ["OVERHEAD_GOAL", "THROUGHPUT_GOAL", "BatchingBench", "shapes"]

THROUGHPUT_GOAL: Final = 0.95  # of the bare loop's positions a second
OVERHEAD_GOAL: Final = 0.05  # of a pass
_REST_S: Final = 0.05  # idle threads of the last loop spin for a moment

_LOOPS: Final = {
    "name": ("passes of", ""),
    "sessions": ("sessions", ""),
    "bare": ("bare loop, positions/s: median (range)", ""),
    "loop": ("engine loop", ""),
    "ratio": ("engine / bare, by round", ""),
    "overhead_us": ("scheduling, us a pass", ".0f"),
    "overhead_share": ("of the time", ".2%"),
    "same": ("same bits", ""),
}
_SESSIONS: Final = {
    "name": ("sessions that", ""),
    "sessions": ("sessions", ""),
    "rows": ("rows a pass", "d"),
    "pass_ms": ("pass, ms", ".1f"),
    "overhead_us": ("scheduling, us a pass", ".0f"),
    "overhead_share": ("of the time", ".2%"),
    "session_us_per_row": ("sampling and answers, us a row", ".0f"),
    "session_share": ("of the time", ".1%"),
}


def shapes(sessions: int, drafts: tuple[int, ...], depth: int) -> Iterator[Shape]:
    """One token each; drafts of each length, of which half stands; drafts of all lengths at once."""
    yield Shape("writes", (1,) * sessions, (1,) * sessions, depth)
    mixes = [(draft,) * sessions for draft in drafts]
    if sessions > 1 and len(drafts) > 1:
        mixes.append(tuple(drafts[number % len(drafts)] for number in range(sessions)))
    for mix in mixes:
        lengths = "+".join(str(draft) for draft in sorted(set(mix)))
        yield Shape(f"drafts of {lengths}", tuple(n + 1 for n in mix), tuple(n // 2 + 1 for n in mix), depth)


@dataclass(frozen=True)
class BatchingBench:
    """Both loops take turns, block by block, on the same model, shapes and threads; then real sessions write and are
    judged on the engine alone.

    Attributes:
        sessions: numbers of sessions that share passes.
        drafts: lengths of drafts, tokens; a pass computes one more.
        passes: of a block.
        depth: tokens in the caches before a block.
        tokens: of a real session's answer.
        threads: of each engine; one for each usable core when None.
    """

    sessions: tuple[int, ...] = (1, 4, 16)
    drafts: tuple[int, ...] = (3, 7)
    passes: int = 8
    rounds: int = 7
    depth: int = 64
    tokens: int = 33
    temperature: float = 0.8
    model: str = "smollm2"
    context: int = 512
    pass_tokens: int = 256
    threads: int | None = None
    name = "batching"

    def __post_init__(self) -> None:
        first_prompts(max(self.sessions))
        longest = max((1, *self.drafts)) + 1
        if self.depth + self.passes * longest > self.context:
            raise ConfigError(f"{self.passes} passes after {self.depth} tokens do not fit a context of {self.context}.")
        if self.tokens < 2 * longest:
            raise ConfigError(f"Answers of {self.tokens} tokens have no two drafts of {longest - 1}.")
        if max(self.sessions) * longest > self.pass_tokens:
            raise ConfigError(f"{max(self.sessions)} drafts do not fit a pass of {self.pass_tokens} tokens.")

    @property
    def steps(self) -> int:
        return self.rounds * sum(
            1 for count in self.sessions for _ in shapes(count, self.drafts, self.depth)
        ) + 2 * len(self.sessions)

    async def measure(self, step: Step) -> dict[str, Any]:
        threads = self.threads or len(machine_cores())
        options = ContextOptions(self.context, max(self.sessions), threads, max(512, self.pass_tokens), 0)
        loops = []
        with (
            closing(BareBatches(self.model, options)) as bare,
            closing(LoopBatches(self.model, options, self.pass_tokens)) as loop,
        ):
            for count in self.sessions:
                for shape in shapes(count, self.drafts, self.depth):
                    loops.append(await self._compare(shape, bare, loop, step))
        sessions = []
        for temperature in (0.0, self.temperature):
            for count in self.sessions:
                sessions += await asyncio.to_thread(self._sessions, count, temperature, threads)
                step(f"{count} sessions at temperature {temperature:g}")
        worst = max(row["overhead_share"] for row in [*loops, *sessions])
        return {
            "threads": threads,
            "loops": loops,
            "sessions": sessions,
            "throughput_goal": THROUGHPUT_GOAL,
            "throughput_met": all(row["ratio"]["median"] >= THROUGHPUT_GOAL for row in loops),
            "overhead_goal": OVERHEAD_GOAL,
            "overhead_met": worst <= OVERHEAD_GOAL,
            "passed": all(row["same_bits"] for row in loops),
        }

    async def _compare(self, shape: Shape, bare: BareBatches, loop: LoopBatches, step: Step) -> dict[str, Any]:
        for one in (bare, loop):
            one.prepare(shape)
            one.block(shape, 1)
        rates: dict[str, list[float]] = {bare.name: [], loop.name: []}
        loop.records.clear()
        same = True
        for number in range(self.rounds):
            last = []
            for one in (bare, loop) if number % 2 else (loop, bare):
                await asyncio.sleep(_REST_S)
                block = one.block(shape, self.passes)
                rates[one.name].append(self.passes * shape.positions / block.seconds)
                last.append(block.last)
            same = same and bool((last[0] == last[1]).all())
            step(f"{shape.name}, {len(shape.runs)} sessions")
        ratios = [mine / its for mine, its in zip(rates[loop.name], rates[bare.name], strict=True)]
        return {
            "name": shape.name,
            "sessions": len(shape.runs),
            "positions": shape.positions,
            "bare_rounds": rates[bare.name],
            "loop_rounds": rates[loop.name],
            "ratio": asdict(Spread.of(ratios)),
            "same_bits": same,
            **_overhead(loop.records),
        }

    def _sessions(self, count: int, temperature: float, threads: int) -> list[dict[str, Any]]:
        engine = open_engine(self.model, context=self.context, sequences=count, threads=threads)
        prompts = [engine.tokenizer.encode(text, special=False, start=True) for text in first_prompts(count)]
        run = SessionsRun(engine, prompts, SamplingParams(temperature=temperature, seed=1), self.tokens)
        with closing(run):
            how = "greedily" if not temperature else f"at temperature {temperature:g}"
            rows = [session_rows(f"write {how}", count, 1, run.write())]
            for draft in self.drafts:
                rows.append(session_rows(f"judge {draft} tokens {how}", count, draft + 1, run.verify(draft)))
            return rows

    def tables(self, results: dict[str, Any]) -> list[Table]:
        rows = [
            {
                **row,
                "bare": str(Spread.of(row["bare_rounds"])),
                "loop": str(Spread.of(row["loop_rounds"])),
                "ratio": str(Spread(**row["ratio"])),
                "same": "yes" if row["same_bits"] else "no",
            }
            for row in results["loops"]
        ]
        met = {True: "met", False: "missed"}
        title = (
            f"{self.model}, {results['threads']} threads, {self.rounds} rounds of {self.passes} passes, caches from "
            f"{self.depth} tokens on. Goal: at least {THROUGHPUT_GOAL:g} of the bare loop: "
            f"{met[results['throughput_met']]}"
        )
        below = (
            f"The cloud's sessions on the same engine, medians of their passes. Goal: scheduling at most "
            f"{OVERHEAD_GOAL:.0%} of the time, here and above: {met[results['overhead_met']]}"
        )
        return [table_of(title, rows, _LOOPS), table_of(below, results["sessions"], _SESSIONS)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        return False


def _overhead(records: list[PassRecord]) -> dict[str, float]:
    overhead = sum(record.overhead_s for record in records)
    whole = sum(record.seconds + record.consumed_s + record.overhead_s for record in records)
    return {"overhead_us": 1e6 * overhead / len(records), "overhead_share": overhead / whole}
