"""`updraft bench capacity`: how many sessions one cloud carries within a service objective, in `draft` and in `cloud`,
and what becomes of it when three times as many come. Edges replay recorded drafts; everything else is real."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.table import Table

from updraft.errors import ConfigError

from .capacity_loads import arriving, at_once, mean_tokens
from .capacity_record import Scripts, read_scripts, record_scripts, write_scripts
from .capacity_rows import AT_ONCE, CARRIED, OVERLOAD, carried_row
from .objective import Objective, Trial, carried, crossing
from .pass_curve import PassCurve
from .replay_edges import ReplayPool
from .report import Step, table_of
from .simulated_edges import Mode
from .simulation import simulated_trial
from .stopping_record import read_questions
from .tiers import cloud_process, machine_cores, pin_apart
from .traffic import Asking, Link, links_of, read_traffic

__all__ = ["CapacityBench"]

_QUESTIONS: Final = Path("spec_bench/question.jsonl")
_BASELINE, _DRAFT, _UNHEEDED = "cloud", "draft", "draft, load unheeded"
_LEAST: Final = 0.97  # of mode cloud's sessions
_FLAT: Final = 0.85  # of the goodput at the load that is carried, at the largest one


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
        return trials + 4 + (0 if self.recording else 12 * self.each)

    @property
    def objective(self) -> Objective:
        return Objective(self.first_ms / 1e3, self.token_ms / 1e3, self.pause_ms / 1e3, self.share)

    async def measure(self, step: Step) -> dict[str, Any]:
        edge_cores, cloud_cores = pin_apart(self.pin)
        scripts = await asyncio.to_thread(self._scripts, step)
        links = links_of(self.data, self.links)
        async with AsyncExitStack() as stack:
            cloud = await stack.enter_async_context(
                cloud_process(
                    self.cloud_model,
                    context=self.context,
                    sequences=self.sequences,
                    cores=cloud_cores,
                    max_sessions=512,
                )
            )
            step("the cloud serves")
            pools: dict[str, ReplayPool] = {}
            for mode in (_BASELINE, _DRAFT, _UNHEEDED):
                pool = ReplayPool(cloud.address, mode, scripts, links, self.first_ms / 1e3)
                pools[mode] = await stack.enter_async_context(pool)
            run = _Run(self, scripts, links, pools, step)
            await run.warm()
            results = await run.all()
        cores = {"edge_cores": edge_cores, "cloud_cores": cloud_cores}
        described = [{"name": link.name, "round_trip_ms": 1e3 * link.round_trip_s} for link in links]
        return cores | {"agreement": scripts.agreement, "draft_ms": 1e3 * scripts.draft_s, "links": described} | results

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
            table_of(
                f"Sessions that arrive as in {results['trace']}", results["arriving"] + results["overload"], OVERLOAD
            ),
        ]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        from .capacity_plot import plot_capacity

        subtitle = f"{self.edge_model} drafts (recorded) for {self.cloud_model}, arrivals {results['trace']}"
        plot_capacity(results, path, subtitle=subtitle)
        return True


class _Run:
    """The trials of one bench, and what they come to."""

    def __init__(
        self,
        bench: CapacityBench,
        scripts: Scripts,
        links: Sequence[Link],
        pools: dict[str, ReplayPool],
        step: Step,
    ) -> None:
        self._bench = bench
        self._scripts = scripts
        self._links = links
        self._pools = pools
        self._step = step
        self._traffic = read_traffic(bench.data, bench.trace)

    async def warm(self) -> None:
        """Connections, the cloud's costs, and what edges learn of their drafts."""
        for mode, pool in self._pools.items():
            await pool.run(self._clients(2 * len(self._links), seed=99), min(4.0, self._bench.seconds))
            self._step(f"{mode}, warming up")

    async def all(self) -> dict[str, Any]:
        bench, objective = self._bench, self._bench.objective
        held = await self._at_once()
        price = self._price()
        curve = PassCurve.line("as told", *price)
        fastest = max(trial.row(objective)["tokens_per_second"] for trial in held[_BASELINE])
        tokens = mean_tokens(arriving(self._scripts, self._traffic, 1.0, 200.0, len(self._links), start=0))
        most = fastest / tokens  # sessions a second that the cloud could write
        come = await self._arriving([share * most for share in bench.loads], bench.rounds)
        rate = carried(come[_BASELINE], objective) or bench.loads[0] * most
        flood = await self._arriving([times * rate for times in bench.overload], 1)
        overload = self._rows(flood, rate)
        rows = [
            carried_row("at once", "sessions", crossing, held, objective),
            carried_row("arriving", "sessions/min", carried, come, objective, scale=60.0),
        ]
        return {
            "trace": self._traffic.name,
            "objective": {"token_ms": bench.token_ms, "first_ms": bench.first_ms, "pause_ms": bench.pause_ms},
            "pass_ms": 1e3 * price[0],
            "position_ms": 1e3 * price[1],
            "carried": rows,
            "at_once": self._at_once_rows(held, curve),
            "arriving": [
                {"times": trial.rate / rate, **trial.row(objective)} for own in come.values() for trial in own
            ],
            "overload": overload,
            "passed": _passed(rows, overload),
        }

    async def _at_once(self) -> dict[str, list[Trial]]:
        bench = self._bench
        found: dict[str, list[Trial]] = {_BASELINE: [], _DRAFT: [], _UNHEEDED: []}
        for number in range(bench.rounds):
            for load in bench.sessions:
                modes = [_BASELINE, _DRAFT, *([_UNHEEDED] if load == max(bench.sessions) else [])]
                for mode in modes[number % 2 :] + modes[: number % 2]:
                    seen = await self._pools[mode].run(self._clients(load, seed=number), bench.seconds)
                    found[mode].append(Trial(mode, load, bench.seconds, tuple(seen)))
                    self._step(f"{load} sessions at once, {mode}")
        return found

    async def _arriving(self, rates: Sequence[float], rounds: int) -> dict[str, list[Trial]]:
        bench, modes = self._bench, [_BASELINE, _DRAFT]
        found: dict[str, list[Trial]] = {mode: [] for mode in modes}
        for number in range(rounds):
            for rate in rates:
                clients = arriving(
                    self._scripts, self._traffic, rate, bench.seconds, len(self._links), start=1000 * number
                )
                for mode in modes[number % 2 :] + modes[: number % 2]:
                    seen = await self._pools[mode].run(clients)
                    found[mode].append(Trial(mode, rate, bench.seconds, tuple(seen)))
                    self._step(f"{60 * rate:.0f} sessions a minute, {mode}")
        return found

    def _rows(self, trials: dict[str, list[Trial]], rate: float) -> list[dict[str, Any]]:
        objective = self._bench.objective
        return [{"times": one.rate / rate, **one.row(objective)} for own in trials.values() for one in own]

    def _clients(self, load: int, *, seed: int) -> list[list[Asking]]:
        return at_once(self._scripts, load, len(self._links), seed=seed)

    def _price(self) -> tuple[float, float]:
        """Seconds of a pass and of a position, as the cloud told them to the edges."""
        told = [costs.price for pool in self._pools.values() for costs in pool.costs if costs.price is not None]
        if not told:
            raise ConfigError("The cloud has told no cost.", remedy="Give more seconds.")
        return median(price.pass_s for price in told), median(price.position_s for price in told)

    def _at_once_rows(self, held: dict[str, list[Trial]], curve: PassCurve) -> list[dict[str, Any]]:
        objective, rows = self._bench.objective, []
        modes = {
            _BASELINE: Mode(_BASELINE, drafts=False),
            _DRAFT: Mode(_DRAFT),
            _UNHEEDED: Mode(_UNHEEDED, heeds=False),
        }
        for mode, trials in held.items():
            for load in sorted({round(trial.rate) for trial in trials}):
                seen = tuple(one for trial in trials if trial.rate == load for one in trial.seen)
                rounds = sum(trial.rate == load for trial in trials)
                row = Trial(mode, load, rounds * self._bench.seconds, seen).row(objective)
                row["tokens_per_second"] = median(
                    trial.row(objective)["tokens_per_second"] for trial in trials if trial.rate == load
                )
                predicted = simulated_trial(
                    curve, modes[mode], self._scripts, load, self._links, sequences=self._bench.sequences
                ).row(objective)
                guess = {"predicted_p50_ms": predicted["token_p50_ms"], "predicted_p95_ms": predicted["token_p95_ms"]}
                rows.append({"load": load, **row, **guess})
        return rows


def _passed(rows: Sequence[dict[str, Any]], overload: Sequence[dict[str, Any]]) -> bool:
    """Drafting carries what writing does, the text is right, and goodput stays where it is under overload."""
    flat = True
    for mode in {row["mode"] for row in overload}:
        own = sorted((row["times"], row["goodput"]) for row in overload if row["mode"] == mode)
        flat &= own[-1][1] >= _FLAT * own[0][1]
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    return flat and all(ratio >= _LEAST for ratio in ratios) and not any(row["wrong"] for row in overload)
