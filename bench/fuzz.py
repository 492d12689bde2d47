"""`updraft bench fuzz`: every decoder gets frames that nobody should send; none crashes, hangs or leaks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table

from updraft.errors import ConfigError, UnknownName

from .fuzz_targets import TARGETS
from .fuzz_worker import BATCH, Batch, batches_of, run_batch, target_of
from .plot import new_figure
from .report import Step, table_of
from .tiers import machine_cores

__all__ = ["FuzzBench", "growth"]

WARM_SHARE: Final = 0.2  # of the batches; what is loaded and cached once is no leak
LEAK_BYTES: Final = 32 << 20  # of half a million frames; allocators keep some of what they once had
SLOW_S: Final = 5.0  # no frame takes so long, whatever else the machine does
_TOLD: Final = 5
COLUMNS: Final = {
    "target": ("decoder", ""),
    "frames": ("frames", "d"),
    "taken": ("taken", ".0%"),
    "micros": ("µs each, with its making", ".0f"),
    "slowest_ms": ("slowest, ms", ".1f"),
    "wrong": ("wrong", "d"),
}


@dataclass(frozen=True)
class FuzzBench:
    """Frames in batches of a thousand; a batch's seed makes its frames again.

    Attributes:
        frames: all together, over the targets by their shares.
        targets: only these.
        first: number of the first batch.
        processes: one a core when left out; none means in this process.
    """

    frames: int = 100_000
    targets: tuple[str, ...] = tuple(TARGETS)
    first: int = 0
    processes: int | None = None
    name = "fuzz"

    def __post_init__(self) -> None:
        if self.frames < 1 or self.first < 0:
            raise ConfigError(f"frames is {self.frames} and first {self.first}; they must be at least 1 and 0.")
        if unknown := set(self.targets) - set(TARGETS):
            raise UnknownName(f"There is no decoder {min(unknown)!r} to fuzz; they are {', '.join(TARGETS)}.")

    @property
    def steps(self) -> int:
        return -(-self.frames // BATCH)

    async def measure(self, step: Step) -> dict[str, Any]:
        batches: list[list[Batch]] = []

        async def follow(seeds: range) -> None:
            own: list[Batch] = []
            batches.append(own)
            async for batch in batches_of(seeds, self.targets):
                own.append(batch)
                step(f"{batch.target}{', wrong' if batch.wrong else ''}")

        stop = self.first + self.steps
        processes = len(machine_cores()) if self.processes is None else self.processes
        if processes == 0:
            here = []
            for seed in range(self.first, stop):
                here.append(await asyncio.to_thread(run_batch, seed, target_of(seed, self.targets)))
                step(here[-1].target)
            batches.append(here)
        else:
            await asyncio.gather(*(follow(range(self.first + place, stop, processes)) for place in range(processes)))
        return self._results(batches)

    def _results(self, batches: list[list[Batch]]) -> dict[str, Any]:
        every = [batch for own in batches for batch in own]
        wrong = [asdict(batch) for batch in every if batch.wrong]
        slow = [asdict(batch) for batch in every if batch.slowest_s > SLOW_S]
        memory = [growth([batch.memory for batch in own]) for own in batches]
        files = [growth([batch.files for batch in own]) for own in batches]
        leaks = max(memory, default=0.0) > LEAK_BYTES or max(files, default=0.0) > 1.0
        return {
            "rows": [row for name in self.targets if (row := _row(name, every))],
            "wrong": wrong,
            "slow": slow,
            "memory_growth_bytes": memory,
            "files_growth": files,
            "memory": [[batch.memory for batch in own] for own in batches],
            "passed": not wrong and not slow and not leaks,
        }

    def tables(self, results: dict[str, Any]) -> list[Table]:
        grown = ", ".join(f"{size / 2**20:+.1f} MiB" for size in results["memory_growth_bytes"])
        files = ", ".join(f"{count:+.1f}" for count in results["files_growth"])
        title = f"resident memory {grown}, file descriptors {files} of each process after the first fifth"
        tables = [table_of(title, results["rows"], COLUMNS)]
        for batch in results["wrong"][:_TOLD]:
            table = Table(title=f"again: --target {batch['target']} --first {batch['seed']} --frames {BATCH}")
            table.add_column("what went wrong")
            table.add_row("\n\n".join(batch["wrong"][:_TOLD]))
            tables.append(table)
        return tables

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        figure = new_figure()
        axes = figure.subplots()
        for number, memory in enumerate(results["memory"], 1):
            axes.plot([size / 2**20 for size in memory], label=f"process {number}")
        axes.set_xlabel(f"batches of {BATCH} frames")
        axes.set_ylabel("resident memory [MiB]")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        axes.set_title("Memory while every decoder is fuzzed", fontsize=11)
        figure.savefig(path, metadata={"Software": None})
        return True


def growth(values: Sequence[float]) -> float:
    """How much a line through the values rises from its beginning to its end, the first fifth left out."""
    kept = values[int(len(values) * WARM_SHARE) :]
    if len(kept) < 3:
        return 0.0
    slope = np.polyfit(np.arange(len(kept)), np.asarray(kept, float), 1)[0]
    return float(slope) * (len(kept) - 1)


def _row(name: str, batches: Sequence[Batch]) -> dict[str, Any] | None:
    own = [batch for batch in batches if batch.target == name]
    frames = sum(batch.frames for batch in own)
    if not frames:
        return None
    return {
        "target": name,
        "frames": frames,
        "taken": sum(batch.taken for batch in own) / frames,
        "micros": 1e6 * sum(batch.seconds for batch in own) / frames,
        "slowest_ms": 1e3 * max(batch.slowest_s for batch in own),
        "wrong": sum(len(batch.wrong) for batch in own),
    }
