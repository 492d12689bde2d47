"""`updraft bench simulation`: sessions that one cloud carries where passes cost what they cost elsewhere: a simulation
of discrete events, fed with measured curves of passes and recorded drafts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from updraft.errors import ConfigError

from .capacity_loads import at_once
from .capacity_record import Scripts, read_scripts
from .objective import Objective, Trial, crossing
from .pass_curve import PassCurve, read_curves
from .report import Step, table_of
from .simulated_cloud import SimulatedCloud, Time
from .simulated_edges import Mode, simulate
from .traffic import Link

__all__ = ["SimulationBench", "assumed_line", "bound", "simulated_trial"]

_LOADS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_ANSWERS: Final = 5  # of each client
_LESSONS: Final = 3  # before them, from which its edge learns
_LATE: Final = 1.5  # times the widest objective: beyond it no larger load is tried
_CARRIED: Final = {
    "curve": ("passes of", ""),
    "round_trip_ms": ("RTT ms", "g"),
    "tightness": ("bare passes a token", "g"),
    "mode": ("mode", ""),
    "carried": ("sessions carried", ".1f"),
    "vs_cloud": ("x cloud", ".2f"),
    "vs_co_located": ("x co-located", ".2f"),
    "bound": ("1 + g td/tv", ".2f"),
}


@dataclass(frozen=True)
class SimulationBench:
    """Every mode carries growing numbers of sessions at once; what it carries within an objective lies between two.

    Attributes:
        recording: drafts that `updraft bench capacity` recorded.
        curves: files that `updraft bench passes` wrote.
        lines: straight ones that are assumed, "MS:MS" of a pass and of each position in it.
        round_trips_ms: of all links.
        lengths: fixed run lengths, each also with the draft model in the cloud (co-located).
        tightness: objectives: time between tokens allowed to 95 % of the answers, in passes over one position.
        sequences: runs in a pass, at most.
        draft_ms: of a drafted token, on edges and cloud alike; as recorded when None.
    """

    recording: Path = Path("bench/results/drafts.json")
    curves: tuple[Path, ...] = (Path("bench/results/passes.json"),)
    lines: tuple[str, ...] = ()
    round_trips_ms: tuple[float, ...] = (5.0, 20.0, 60.0)
    lengths: tuple[int, ...] = (2, 4, 8)
    tightness: tuple[float, ...] = (1.15, 1.25, 1.5, 2.0, 3.0)
    sequences: int = 256
    pass_tokens: int = 512
    draft_ms: float | None = None
    name = "simulation"

    def __post_init__(self) -> None:
        if not (self.curves or self.lines) or not self.round_trips_ms or min(self.round_trips_ms) < 0.0:
            raise ConfigError("Give a file of curves, and round trips of at least 0 ms.")
        if not self.tightness or min(self.tightness) <= 1.0:
            raise ConfigError("A token cannot come faster than a pass: give a tightness above 1.")

    @property
    def steps(self) -> int:
        return len(self._curves) * len(self.round_trips_ms) * len(self._modes)

    @property
    def _curves(self) -> list[PassCurve]:
        measured = [curve for path in self.curves for curve in read_curves(path)]
        return measured + [assumed_line(line) for line in self.lines]

    @property
    def _modes(self) -> list[Mode]:
        modes = [Mode("cloud", drafts=False), Mode("draft"), Mode("draft, load unheeded", heeds=False)]
        for length in self.lengths:
            modes += [Mode(f"draft {length}", length), Mode(f"co-located {length}", length, co_located=True)]
        return modes

    async def measure(self, step: Step) -> dict[str, Any]:
        return await asyncio.to_thread(self._measure, step)

    def _measure(self, step: Step) -> dict[str, Any]:
        scripts = read_scripts(self.recording)
        if self.draft_ms is not None:
            scripts = scripts.paced(self.draft_ms / 1e3)
        rows: list[dict[str, Any]] = []
        for curve in self._curves:
            for trip in self.round_trips_ms:
                carried: dict[str, list[Trial]] = {}
                for mode in self._modes:
                    carried[mode.name] = self._trials(curve, mode, scripts, trip / 1e3)
                    step(f"{curve.name}, {trip:g} ms, {mode.name}")
                rows += self._rows(curve, trip, carried, scripts)
        best = [row for row in rows if row["mode"] == "draft" and row["vs_cloud"] is not None]
        facts = {"simulation": True, "edge": scripts.edge, "cloud": scripts.cloud, "agreement": scripts.agreement}
        return facts | {
            "draft_ms": 1e3 * scripts.draft_s,
            "best": max((row["vs_cloud"] for row in best), default=None),
            "worst": min((row["vs_cloud"] for row in best), default=None),
            "rows": rows,
        }

    def _trials(self, curve: PassCurve, mode: Mode, scripts: Scripts, round_trip_s: float) -> list[Trial]:
        latest = max(self.tightness) * curve.seconds(1, 1, 1)
        objective = Objective(1e9, latest * _LATE, 1e9)
        trials: list[Trial] = []
        links = [Link("link", round_trip_s)]
        for load in _LOADS:
            cloud = {"sequences": self.sequences, "pass_tokens": self.pass_tokens}
            trials.append(simulated_trial(curve, mode, scripts, load, links, **cloud))
            if crossing(trials, objective) < load:
                break
        return trials

    def _rows(
        self, curve: PassCurve, trip: float, carried: dict[str, list[Trial]], scripts: Scripts
    ) -> list[dict[str, Any]]:
        rows = []
        for tightness in self.tightness:
            objective = Objective(1e9, tightness * curve.seconds(1, 1, 1), 1e9)
            found = {mode: crossing(trials, objective) for mode, trials in carried.items()}
            for mode in self._modes:
                beside = found.get(f"co-located {mode.length}") if mode.length and not mode.co_located else None
                rows.append(
                    {
                        "curve": curve.name,
                        "round_trip_ms": trip,
                        "tightness": tightness,
                        "mode": mode.name,
                        "carried": found[mode.name],
                        "vs_cloud": _ratio(found[mode.name], found["cloud"]),
                        "vs_co_located": None if beside is None else _ratio(found[mode.name], beside),
                        "bound": None if beside is None else bound(curve, mode.length or 0, scripts.draft_s),
                    }
                )
        return rows

    def tables(self, results: dict[str, Any]) -> list[Table]:
        title = (
            f"SIMULATED from passes as named and recorded drafts of {results['edge']} for {results['cloud']} "
            f"(agreement {results['agreement']:.0%}, {results['draft_ms']:.1f} ms a drafted token)"
        )
        return [table_of(title, results["rows"], _CARRIED)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        from .capacity_plot import plot_simulation

        subtitle = f"{results['edge']} drafts for {results['cloud']}, discrete events"
        plot_simulation(results["rows"], path, subtitle=subtitle)
        return True


def simulated_trial(
    curve: PassCurve,
    mode: Mode,
    scripts: Scripts,
    load: int,
    links: Sequence[Link],
    *,
    sequences: int,
    pass_tokens: int = 256,
    answers: int = _ANSWERS,
) -> Trial:
    """So many clients, each with some answers one after the other, after some that teach its edge and do not count."""
    time = Time()
    cloud = SimulatedCloud(time, curve, sequences=sequences, pass_tokens=pass_tokens)
    clients = at_once(scripts, load, len(links), each=_LESSONS + answers)
    seen = simulate(cloud, mode, clients, scripts.scripts, links)
    return Trial(mode.name, load, time.now, tuple(seen[_LESSONS * load :]))


def assumed_line(line: str) -> PassCurve:
    """A curve from "MS:MS", milliseconds of a pass and of each position. Raises ConfigError for anything else."""
    try:
        pass_ms, position_ms = (float(part) for part in line.split(":"))
        if not (0.0 <= pass_ms < math.inf and 0.0 < position_ms < math.inf):
            raise ValueError
    except ValueError as error:
        raise ConfigError(f"{line!r} is no line of passes.", remedy="Give two times, as in 50:0.5.") from error
    return PassCurve.line(f"assumed {line} ms", pass_ms / 1e3, position_ms / 1e3)


def bound(curve: PassCurve, length: int, draft_s: float) -> float:
    """Speculation at a Distance (arXiv 2606.25091): a saturated server sustains 1 + g t_d / t_v times as many clients
    at the same rate once the g draft steps of a round, t_d each, run elsewhere and its verification, t_v, is left."""
    return 1.0 + length * draft_s / curve.seconds(1, length + 1, length + 1)


def _ratio(one: float, other: float) -> float | None:
    return one / other if other > 0.0 else None
