"""`updraft bench faults`: whatever goes wrong on the link or in the cloud, no token is lost or changed."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from updraft.config import CloudSettings, ListenSettings
from updraft.errors import ConfigError

from .fault_processes import ENGINE_THREADS, MortalCloud, model_arena, random_death, run_mortally
from .fault_runner import Outcome
from .fault_schedule import Schedule, random_schedule
from .fault_worker import Share, in_process, in_this_process
from .report import Step, table_of
from .tiers import machine_cores

__all__ = ["FaultsBench"]

TINY: Final = "tiny"
_MORTAL_LANES: Final = 4  # answers at once with real models
_TOLD: Final = 5  # failing schedules that are told in full
COLUMNS: Final = {
    "schedules": ("schedules", "d"),
    "wrong": ("lost or changed", "d"),
    "faults": ("faults that struck", "d"),
    "reopened": ("sessions reopened", "d"),
    "degraded": ("finished by the edge, and said so", "d"),
    "starved": ("of these for want of a core", "d"),
    "tokens": ("tokens", "d"),
    "killed": ("deaths of a process", "d"),
    "per_second": ("schedules/s", ".1f"),
}


@dataclass(frozen=True)
class FaultsBench:
    """Random schedules of faults, each against the same answer without faults.

    Attributes:
        first: seed of the first schedule; the others count on from it.
        lanes: answers at once in each process.
        processes: one a core when left out.
        model: of a cloud in processes that are killed; `tiny` for a tiny engine in the processes of the bench.
        edge_model: of the agents then.
        replay: a schedule as JSON, or the file of a run that failed, in place of random ones.
    """

    schedules: int = 1000
    first: int = 0
    tokens: int = 24
    lanes: int = 12
    processes: int | None = None
    model: str = TINY
    edge_model: str = "smollm2-q4_0"
    context: int = 512
    replay: Path | None = None
    name = "faults"

    def __post_init__(self) -> None:
        for name, most in (("schedules", 10**7), ("lanes", 64), ("tokens", 256), ("processes", 64)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise ConfigError(f"{name} is {value}; it must be from 1 to {most}.")
        if self.replay is not None:
            self._replayed()

    @property
    def steps(self) -> int:
        return self.schedules if self.replay is None else len(self._replayed())

    async def measure(self, step: Step) -> dict[str, Any]:
        started, outcomes = time.perf_counter(), list[Outcome]()

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            failed = sum(bool(one.wrong) for one in outcomes)
            step(f"{failed} wrong" if failed else "none wrong")

        deaths = await self._run(done)
        failed = [outcome for outcome in outcomes if outcome.wrong]
        struck = Counter(kind for outcome in outcomes for kind in outcome.struck)
        row = {
            "schedules": len(outcomes),
            "wrong": len(failed),
            "faults": sum(struck.values()),
            "reopened": sum(outcome.reopened for outcome in outcomes),
            "degraded": sum(outcome.degraded for outcome in outcomes),
            "starved": sum(outcome.starved for outcome in outcomes),
            "tokens": sum(outcome.tokens for outcome in outcomes),
            "killed": deaths,
            "per_second": len(outcomes) / (time.perf_counter() - started),
        }
        return {
            "rows": [row],
            "struck": dict(sorted(struck.items())),
            "failed": [asdict(outcome) for outcome in failed],
            "passed": not failed,
        }

    async def _run(self, done: Callable[[Outcome], None]) -> int:
        """Run the schedules; how often a process of the cloud died."""
        if self.model != TINY:
            return await self._run_mortally(done)
        await self._run_tiny(done)
        return 0

    async def _run_mortally(self, done: Callable[[Outcome], None]) -> int:
        seeds = range(self.first, self.first + self.schedules)
        schedules = (random_schedule(seed, tokens=self.tokens, points=False) for seed in seeds)
        lanes = min(self.lanes, _MORTAL_LANES)
        settings = CloudSettings(
            model=self.model,
            context=self.context,
            sequences=2 * lanes,
            threads=ENGINE_THREADS,
            listen=ListenSettings(port=0),
            drain_s=0.5,
            log_level="error",
        )
        async with (
            MortalCloud(settings, random_death(self.first)) as cloud,
            model_arena(cloud, self.edge_model, lanes, context=self.context) as arena,
        ):
            await run_mortally(schedules if self.replay is None else self._replayed(), cloud, arena, lanes, done)
            return sum(cloud.deaths.values())

    async def _run_tiny(self, done: Callable[[Outcome], None]) -> None:
        if self.replay is not None:
            await in_this_process(self._replayed(), 1, done)
            return
        processes = min(self.processes or len(machine_cores()), self.schedules)
        stop = self.first + self.schedules
        shares = [Share(self.first + place, stop, processes, self.lanes, self.tokens) for place in range(processes)]
        if processes == 1:
            await in_this_process(shares[0].schedules, self.lanes, done)
            return
        async with asyncio.TaskGroup() as group:
            for share in shares:
                group.create_task(in_process(share, done))

    def _replayed(self) -> list[Schedule]:
        """The schedules of a file: one by itself, or those that a run found wrong."""
        assert self.replay is not None  # noqa: S101 (asked for by whoever replays)
        try:
            document = json.loads(self.replay.read_bytes())
        except OSError as error:
            raise ConfigError(f"The schedule {self.replay} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise ConfigError(f"The schedule {self.replay} is no JSON.") from error
        failed = document.get("results", {}).get("failed") if isinstance(document, dict) else None
        chosen = [document] if failed is None else [one["schedule"] for one in failed]
        return [Schedule.from_json(json.dumps(one)) for one in chosen]

    def tables(self, results: dict[str, Any]) -> list[Table]:
        struck = ", ".join(f"{count} {kind}" for kind, count in results["struck"].items())
        tables = [table_of(f"faults that struck: {struck or 'none'}", results["rows"], COLUMNS)]
        for failed in results["failed"][:_TOLD]:
            table = Table(title=f"replay with --replay: {json.dumps(failed['schedule'])}", title_justify="left")
            table.add_column("history")
            table.add_row(failed["told"])
            tables.append(table)
        return tables

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        return False
