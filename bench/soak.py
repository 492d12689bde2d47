"""`updraft bench soak`: hours of answers with faults, and nothing grows."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from updraft.config import CloudSettings, ListenSettings
from updraft.config.kv import KvSettings
from updraft.config.operations import OperationsSettings
from updraft.errors import ConfigError

from .fault_processes import ENGINE_THREADS, MortalCloud, model_arena, tiny_models
from .fault_runner import Arena, Outcome
from .fault_schedule import random_schedule
from .fuzz import growth
from .plot import new_figure
from .report import Step, table_of
from .watch import free_port, held, scraped

__all__ = ["SoakBench", "judged"]

TINY: Final = "tiny"
SAMPLES: Final = 360
# Growth from a fifth of the time to its end that is no leak: allocators keep what they once had.
ALLOWED: Final = {
    "memory": 24.0 * 2**20,
    "files": 4.0,
    "threads": 3.0,
    "sessions": 4.0,
    "sequences": 4.0,
    "kv_bytes": 4.0 * 2**20,
}
# Filled long before the first fifth is over:
_HOST_BYTES: Final = 4 << 20  # caches of idle sessions and earlier prompts
_LOOKUP_TOKENS: Final = 512  # past answers that an agent looks up in
_SETTLE_S: Final = 5.0
_REPLY_S: Final = 4.0  # every lost frame costs an answer so long
COLUMNS: Final = {
    "process": ("process", ""),
    "what": ("what", ""),
    "first": ("after the first fifth", ",.0f"),
    "last": ("at the end", ",.0f"),
    "growth": ("growth (fitted)", "+,.1f"),
    "per_hour": ("an hour", "+,.1f"),
    "allowed": ("allowed", ",.0f"),
}

Sample = dict[str, dict[str, float]]


@dataclass(frozen=True)
class SoakBench:
    """Sessions come and go over links that go wrong; both processes of the cloud and the agents' are watched.

    Attributes:
        lanes: answers at once, each by an agent of its own.
        model: of the cloud; `tiny` for a tiny one of both tiers.
    """

    minutes: float = 60.0
    lanes: int = 6
    tokens: int = 24
    first: int = 0
    model: str = TINY
    edge_model: str = "smollm2-q4_0"
    context: int = 512
    name = "soak"

    def __post_init__(self) -> None:
        if not 0.0 < self.minutes <= 10_000 or not 1 <= self.lanes <= 64:
            raise ConfigError(f"minutes is {self.minutes} and lanes {self.lanes}; both must be above 0.")

    @property
    def steps(self) -> int:
        return SAMPLES

    async def measure(self, step: Step) -> dict[str, Any]:
        port = free_port()
        with self._models() as (edge, model):
            settings = CloudSettings(
                model=model,
                context=self.context,
                sequences=2 * self.lanes,
                threads=ENGINE_THREADS,
                listen=ListenSettings(port=0),
                operations=OperationsSettings(enabled=True, port=port),
                kv=KvSettings(host_bytes=_HOST_BYTES),
                drain_s=0.5,
                log_level="error",
            )
            async with (
                MortalCloud(settings) as cloud,
                model_arena(
                    cloud,
                    edge,
                    self.lanes,
                    context=self.context,
                    reply_timeout_s=_REPLY_S,
                    lookup_tokens=_LOOKUP_TOKENS,
                ) as arena,
            ):
                soak = _Soak(self, cloud, arena, f"127.0.0.1:{port}")
                await soak.run(step)
        return soak.results()

    @contextlib.contextmanager
    def _models(self) -> Iterator[tuple[str, str]]:
        if self.model != TINY:
            yield self.edge_model, self.model
            return
        with tiny_models() as both:
            yield both

    def tables(self, results: dict[str, Any]) -> list[Table]:
        title = (
            f"{results['answers']} answers in {results['minutes']:.1f} minutes, {results['faults']} faults, "
            f"{len(results['failed'])} wrong, {results['starved']} finished by the edge for want of a core; "
            f"{results['deaths']} processes died"
        )
        return [table_of(title, results["rows"], COLUMNS)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        figure = new_figure()
        panels = (("memory", 2**20, "resident memory [MiB]"), ("files", 1, "open files"), ("threads", 1, "threads"))
        axes = figure.subplots(1, 4)
        times = [at / 60 for at in results["times_s"]]
        for place, (what, unit, label) in zip(axes, panels, strict=False):
            for process in ("front", "engine", "edge"):
                values = [sample.get(process, {}).get(what) for sample in results["samples"]]
                place.plot(times, [None if value is None else value / unit for value in values], label=process)
            place.set_ylabel(label)
        for what in ("sessions", "sequences"):
            axes[3].plot(times, [sample.get("cloud", {}).get(what) for sample in results["samples"]], label=what)
        for place in axes:
            place.set_xlabel("minutes")
            place.set_ylim(bottom=0)
            place.grid(alpha=0.3)
            place.legend(frameon=False, fontsize=8)
        figure.suptitle(f"Soak: {results['answers']} answers over links that go wrong", fontsize=11)
        figure.savefig(path, metadata={"Software": None})
        return True


class _Soak:
    """One run."""

    def __init__(self, bench: SoakBench, cloud: MortalCloud, arena: Arena, operations: str) -> None:
        self._bench, self._cloud, self._arena, self._operations = bench, cloud, arena, operations
        self._started = time.perf_counter()
        self._stop = self._started + 60 * bench.minutes
        self._seeds = itertools.count(bench.first)
        self._samples: list[Sample] = []
        self._times: list[float] = []
        self._answers = self._faults = self._starved = 0
        self._failed: list[Outcome] = []

    async def run(self, step: Step) -> None:
        watching = asyncio.create_task(self._watch(step))
        await asyncio.gather(*(self._lane() for _ in range(self._bench.lanes)))
        await watching
        await asyncio.sleep(min(_SETTLE_S, 6 * self._bench.minutes))
        self._idle = await self._sample()

    def results(self) -> dict[str, Any]:
        rows = judged(self._samples, self._times)
        left = self._idle.get("cloud", {}).get("sessions", 0.0)
        faults = self._idle.get("cloud", {}).get("kv_faults", 0.0)
        leaks = [row for row in rows if row["growth"] > row["allowed"]]
        return {
            "rows": rows,
            "minutes": (time.perf_counter() - self._started) / 60,
            "answers": self._answers,
            "faults": self._faults,
            "starved": self._starved,
            "failed": [{"schedule": one.schedule.to_json(), "told": one.told} for one in self._failed],
            "deaths": sum(self._cloud.deaths.values()),
            "sessions_left": left,
            "times_s": self._times,
            "samples": self._samples,
            "passed": not (self._failed or leaks or left or faults or any(self._cloud.deaths.values())),
        }

    async def _lane(self) -> None:
        while time.perf_counter() < self._stop:
            schedule = random_schedule(next(self._seeds), tokens=self._bench.tokens, points=False)
            outcome = await self._arena.outcome(schedule)
            self._answers += 1
            self._faults += len(outcome.struck)
            self._starved += outcome.starved
            if outcome.wrong:
                self._failed.append(outcome)

    async def _watch(self, step: Step) -> None:
        pause = 60 * self._bench.minutes / SAMPLES
        for number in range(SAMPLES):
            await asyncio.sleep(max(0.0, self._started + number * pause - time.perf_counter()))
            self._times.append(time.perf_counter() - self._started)
            self._samples.append(await self._sample())
            step(f"{self._answers} answers")

    async def _sample(self) -> Sample:
        return {
            "front": held(self._cloud.front),
            "engine": held(self._cloud.engine),
            "edge": held(os.getpid()),
            "cloud": await asyncio.to_thread(scraped, self._operations),
        }


def judged(samples: list[Sample], times: list[float]) -> list[dict[str, Any]]:
    """How much each thing that was sampled grew, and how much it may."""
    rows = []
    for process, what in itertools.product(("front", "engine", "edge", "cloud"), ALLOWED):
        values = [sample[process][what] for sample in samples if what in sample.get(process, {})]
        if len(values) < 3:
            continue
        grown, warm = growth(values), len(values) // 5
        seconds = (times[-1] - times[0]) * 0.8 or 1.0
        rows.append(
            {
                "process": process,
                "what": what,
                "first": values[warm],
                "last": values[-1],
                "growth": grown,
                "per_hour": grown / seconds * 3600,
                "allowed": ALLOWED[what],
            }
        )
    return rows
