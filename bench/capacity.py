"""`updraft bench capacity`: how many sessions one cloud carries within a service objective, in `draft` and in `cloud`,
and what becomes of it when three times as many come. Edges replay recorded drafts; everything else is real."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from updraft.cloud_process import CloudProcess
from updraft.config.admission import AdmissionSettings
from updraft.errors import ConfigError

from .capacity_record import Scripts, read_scripts, record_scripts, write_scripts
from .capacity_rows import AT_ONCE, CARRIED, OVERLOAD
from .capacity_run import MODES, CapacityRun
from .objective import Objective
from .report import Step, table_of
from .stopping_record import read_questions
from .tiers import cloud_process, machine_cores, pin_apart
from .traffic import links_of

__all__ = ["CapacityBench"]

_QUESTIONS: Final = Path("spec_bench/question.jsonl")


@dataclass(frozen=True)
class CapacityBench:
    """Modes take turns on one cloud, load by load, with the same sessions.

    Attributes:
        data: folder with spec_bench, traces of requests and of networks; built-in prompts and drawn arrivals when None.
        trace: azure, mooncake or poisson.
        recording: drafts that were recorded before; recorded and written to `drafts.json` in `keep` when None.
        sessions: at once.
        loads: rates of arrivals, as shares of what the cloud could write at most.
        overload: rates of arrivals, times what mode cloud carries.
        rounds: of every load, each with another part of the trace.
        seconds: in which sessions begin, for each load, mode and round.
        token_ms, first_ms, pause_ms, share: the objective: mean time between tokens, time to the first token and
            longest pause of an answer, and the share of answers that must hold them.
        links: how many, of measured round trips and bandwidths.
    """

    data: Path | None = None
    trace: str = "azure"
    recording: Path | None = None
    keep: Path = Path("bench/results")
    edge_model: str = "smollm2-q4_0"
    cloud_model: str = "smollm2"
    each: int = 3
    tokens: int = 48
    longest_prompt: int = 160
    sessions: tuple[int, ...] = (2, 4, 8, 12)
    loads: tuple[float, ...] = (0.5, 0.7, 0.9)
    overload: tuple[float, ...] = (1.0, 2.0, 3.0)
    rounds: int = 2
    seconds: float = 15.0
    token_ms: float = 100.0
    first_ms: float = 2000.0
    pause_ms: float = 1500.0
    share: float = 0.9
    links: int = 6
    sequences: int = 16
    context: int = 512
    pin: bool = True
    name = "capacity"

    def __post_init__(self) -> None:
        if len(self.sessions) < 2 or min(self.sessions) < 1 or min((*self.loads, *self.overload), default=1.0) <= 0.0:
            raise ConfigError("Give at least two numbers of sessions, and loads above 0.")
        if self.longest_prompt + self.tokens > self.context:
            raise ConfigError(f"{self.longest_prompt} + {self.tokens} tokens do not fit a context of {self.context}.")
        if self.rounds < 1 or self.seconds <= 0.0 or self.links < 1:
            raise ConfigError("Give at least one round and one link, and seconds above 0.")

    @property
    def steps(self) -> int:
        trials = self.rounds * (len(self.sessions) * 2 + 1 + len(self.loads) * 2) + len(self.overload) * 2
        return trials + 7 + (0 if self.recording else 12 * self.each)

    @property
    def objective(self) -> Objective:
        return Objective(self.first_ms / 1e3, self.token_ms / 1e3, self.pause_ms / 1e3, self.share)

    async def measure(self, step: Step) -> dict[str, Any]:
        edge_cores, cloud_cores = pin_apart(self.pin)
        scripts = await asyncio.to_thread(self._scripts, step)
        links = links_of(self.data, self.links)
        run = CapacityRun(self, scripts, links, step)
        async with self._cloud(cloud_cores) as cloud, AsyncExitStack() as stack:
            step("the cloud serves")
            pools = [await stack.enter_async_context(run.pool(cloud.address, mode)) for mode in MODES]
            await run.carry(pools)
        # Who runs a service lets in as many as its objective allows, and nobody who would wait longer than it allows.
        doors = AdmissionSettings(places=max(1, int(run.places)), queue_wait_s=self.first_ms / 2e3)
        async with self._cloud(cloud_cores, admission=doors) as cloud, AsyncExitStack() as stack:
            step("the cloud serves, its doors set")
            pools = [await stack.enter_async_context(run.pool(cloud.address, mode)) for mode in MODES[:2]]
            await run.flood(pools)
        cores = {"edge_cores": edge_cores, "cloud_cores": cloud_cores}
        described = [{"name": link.name, "round_trip_ms": 1e3 * link.round_trip_s} for link in links]
        facts = {"agreement": scripts.agreement, "draft_ms": 1e3 * scripts.draft_s, "links": described}
        return cores | facts | {"doors": doors.model_dump(mode="json")} | run.results()

    def _cloud(self, cores: tuple[int, ...] | None, **more: Any) -> CloudProcess:
        sizes = {"context": self.context, "sequences": self.sequences, "max_sessions": 512}
        return cloud_process(self.cloud_model, cores=cores, **sizes, **more)

    def _scripts(self, step: Step) -> Scripts:
        if self.recording is not None:
            return read_scripts(self.recording)
        scripts = record_scripts(
            self.edge_model,
            self.cloud_model,
            read_questions(None if self.data is None else self.data / _QUESTIONS),
            each=self.each if self.data is not None else 6 * self.each,
            longest_prompt=self.longest_prompt,
            tokens=self.tokens,
            tail=16,
            context=self.context,
            threads=len(machine_cores()) if self.pin else None,
            done=step,
        )
        write_scripts(scripts, self.keep / "drafts.json")
        return scripts

    def tables(self, results: dict[str, Any]) -> list[Table]:
        objective = (
            f"{self.share:.0%} of the answers: {self.token_ms:g} ms between tokens, first after {self.first_ms:g} ms, "
            f"no pause above {self.pause_ms:g} ms"
        )
        return [
            table_of(f"Sessions carried by {self.cloud_model}; {objective}", results["carried"], CARRIED),
            table_of("Sessions at once, each followed by the next", results["at_once"], AT_ONCE),
            table_of(f"Sessions that arrive as in {results['trace']}", results["arriving"], OVERLOAD),
            table_of(f"Overload; {results['doors']['places']} places", results["overload"], OVERLOAD),
        ]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        from .capacity_plot import plot_capacity

        subtitle = f"{self.edge_model} drafts (recorded) for {self.cloud_model}, arrivals {results['trace']}"
        plot_capacity(results, path, subtitle=subtitle)
        return True
