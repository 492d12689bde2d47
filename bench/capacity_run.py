"""The trials of `updraft bench capacity`, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any, Final, Protocol

from updraft.errors import ConfigError

from .capacity_loads import arriving, at_once, mean_tokens
from .capacity_record import Scripts
from .capacity_rows import carried_row
from .objective import Objective, Trial, carried, crossing
from .pass_curve import PassCurve
from .replay_edges import ReplayPool
from .report import Step
from .simulated_edges import Mode
from .simulation import simulated_trial
from .traffic import Asking, Link, read_traffic

__all__ = ["MODES", "CapacityOptions", "CapacityRun"]

MODES: Final = ("cloud", "draft", "draft, load unheeded")
"""The baseline, what is measured, and the same without a look at the cloud's load."""

_SIMULATED: Final = (Mode(MODES[0], drafts=False), Mode(MODES[1]), Mode(MODES[2], heeds=False))
_LEAST: Final = 0.97  # of mode cloud's sessions
_FLAT: Final = 0.85  # of the goodput at the load that is carried, at the largest one
_WARM_S: Final = 4.0

Pools = dict[str, ReplayPool]
Trials = dict[str, list[Trial]]


class CapacityOptions(Protocol):
    """What a run reads of the bench's options."""

    @property
    def data(self) -> Any: ...

    @property
    def trace(self) -> str: ...

    @property
    def sessions(self) -> tuple[int, ...]: ...

    @property
    def loads(self) -> tuple[float, ...]: ...

    @property
    def overload(self) -> tuple[float, ...]: ...

    @property
    def rounds(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    @property
    def sequences(self) -> int: ...

    @property
    def objective(self) -> Objective: ...


class CapacityRun:
    """Modes take turns, load by load, with the same sessions."""

    def __init__(self, options: CapacityOptions, scripts: Scripts, links: Sequence[Link], step: Step) -> None:
        self._options = options
        self._scripts = scripts
        self._links = links
        self._step = step
        self._traffic = read_traffic(options.data, options.trace)
        self._held: Trials = {}
        self._come: Trials = {}
        self._flood: Trials = {}
        self._price = (0.0, 0.0)
        self._rate = 0.0

    @property
    def places(self) -> float:
        """Sessions at once that mode cloud carries."""
        return crossing(self._held[MODES[0]], self._options.objective)

    def pool(self, address: str, mode: str) -> ReplayPool:
        """Edges of a mode; they wait for a cloud that sheds load as long as a first token may take."""
        return ReplayPool(address, mode, self._scripts, self._links, self._options.objective.first_s)

    async def carry(self, edges: Sequence[ReplayPool]) -> None:
        """Sessions at once, then sessions that arrive as in the trace; a pool for each of `MODES`."""
        pools = {pool.mode: pool for pool in edges}
        options, objective = self._options, self._options.objective
        await self._warm(pools)
        self._held = await self._at_once(pools)
        self._price = _told(pools)
        fastest = max(trial.row(objective)["tokens_per_second"] for trial in self._held[MODES[0]])
        tokens = mean_tokens(arriving(self._scripts, self._traffic, 1.0, 200.0, len(self._links), start=0))
        most = fastest / tokens  # sessions a second that the cloud could write
        self._come = await self._arriving(pools, [share * most for share in options.loads], options.rounds)
        self._rate = carried(self._come[MODES[0]], objective) or options.loads[0] * most

    async def flood(self, edges: Sequence[ReplayPool]) -> None:
        """More and more sessions than mode cloud carries; pools of the first two modes."""
        pools = {pool.mode: pool for pool in edges}
        await self._warm(pools)
        self._flood = await self._arriving(pools, [times * self._rate for times in self._options.overload], 1)

    def results(self) -> dict[str, Any]:
        objective = self._options.objective
        rows = [
            carried_row("at once", "sessions", crossing, self._held, objective),
            carried_row("arriving", "sessions/min", carried, self._come, objective, scale=60.0),
        ]
        overload = self._rows(self._flood)
        limits = {"token_ms": objective.token_s, "first_ms": objective.first_s, "pause_ms": objective.pause_s}
        return {
            "trace": self._traffic.name,
            "objective": {name: 1e3 * seconds for name, seconds in limits.items()},
            "pass_ms": 1e3 * self._price[0],
            "position_ms": 1e3 * self._price[1],
            "carried": rows,
            "at_once": self._at_once_rows(),
            "arriving": self._rows(self._come),
            "overload": overload,
            "passed": _passed(rows, overload),
        }

    async def _warm(self, pools: Pools) -> None:
        """Connections, the cloud's costs, and what edges learn of their drafts."""
        for mode, pool in pools.items():
            await pool.run(self._clients(2 * len(self._links), seed=99), min(_WARM_S, self._options.seconds))
            self._step(f"{mode}, warming up")

    async def _at_once(self, pools: Pools) -> Trials:
        options = self._options
        found: Trials = {mode: [] for mode in MODES}
        for number in range(options.rounds):
            for load in options.sessions:
                modes = MODES if load == max(options.sessions) else MODES[:2]
                for mode in modes[number % 2 :] + modes[: number % 2]:
                    seen = await pools[mode].run(self._clients(load, seed=number), options.seconds)
                    found[mode].append(Trial(mode, load, options.seconds, tuple(seen)))
                    self._step(f"{load} sessions at once, {mode}")
        return found

    async def _arriving(self, pools: Pools, rates: Sequence[float], rounds: int) -> Trials:
        seconds, modes = self._options.seconds, MODES[:2]
        found: Trials = {mode: [] for mode in modes}
        for number in range(rounds):
            for rate in rates:
                start = 1000 * number
                clients = arriving(self._scripts, self._traffic, rate, seconds, len(self._links), start=start)
                for mode in modes[number % 2 :] + modes[: number % 2]:
                    seen = await pools[mode].run(clients)
                    found[mode].append(Trial(mode, rate, seconds, tuple(seen)))
                    self._step(f"{60 * rate:.0f} sessions a minute, {mode}")
        return found

    def _clients(self, load: int, *, seed: int) -> list[list[Asking]]:
        return at_once(self._scripts, load, len(self._links), seed=seed)

    def _rows(self, trials: Trials) -> list[dict[str, Any]]:
        objective = self._options.objective
        return [{"times": one.rate / self._rate, **one.row(objective)} for own in trials.values() for one in own]

    def _at_once_rows(self) -> list[dict[str, Any]]:
        """The rounds of a mode and load together, beside what the simulation says of passes as the cloud told them."""
        objective, curve, rows = self._options.objective, PassCurve.line("as told", *self._price), []
        for mode in _SIMULATED:
            trials = self._held[mode.name]
            for load in sorted({round(trial.rate) for trial in trials}):
                own = [trial for trial in trials if trial.rate == load]
                whole = Trial(
                    mode.name, load, sum(one.seconds for one in own), tuple(seen for one in own for seen in one.seen)
                )
                sizes = {"sequences": self._options.sequences}
                predicted = simulated_trial(curve, mode, self._scripts, load, self._links, **sizes).row(objective)
                row = {"load": load, **whole.row(objective)}
                row["tokens_per_second"] = median(one.row(objective)["tokens_per_second"] for one in own)
                row |= {f"predicted_{share}_ms": predicted[f"token_{share}_ms"] for share in ("p50", "p95")}
                rows.append(row)
        return rows


def _told(pools: Pools) -> tuple[float, float]:
    """Seconds of a pass and of a position, as the cloud told them to the edges."""
    told = [costs.price for pool in pools.values() for costs in pool.costs if costs.price is not None]
    if not told:
        raise ConfigError("The cloud has told no cost.", remedy="Give more seconds.")
    return median(price.pass_s for price in told), median(price.position_s for price in told)


def _passed(rows: Sequence[dict[str, Any]], overload: Sequence[dict[str, Any]]) -> bool:
    """Drafting carries what writing does, the text is right, and goodput stays where it is under overload."""
    flat = True
    for mode in {row["mode"] for row in overload}:
        own = sorted((row["times"], row["goodput"]) for row in overload if row["mode"] == mode)
        flat &= own[-1][1] >= _FLAT * own[0][1]
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    return flat and all(ratio >= _LEAST for ratio in ratios) and not any(row["wrong"] for row in overload)
