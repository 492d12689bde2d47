"""`updraft bench calibration`: whether calibrated settings hold on prompts that were not calibrated on.

It takes results that `updraft calibrate` recorded for every prompt and setting, splits the prompts a hundred times, and
counts how often the held-out prompts keep what was promised; the measured mean without a correction is the baseline.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from updraft.calibration.fit import choose_point
from updraft.calibration.goals import Goal
from updraft.calibration.grid import KNOBS, lossless
from updraft.calibration.results import CLOUD_ONLY, EDGE_ONLY, Measured, Results, value_of
from updraft.calibration.results import Table as Answers
from updraft.calibration.route import routed
from updraft.errors import ConfigError
from updraft.evaluation.conformal import plug_in
from updraft.modes import Mode

from .plot import new_figure
from .report import Step, table_of

__all__ = ["CalibrationBench", "Recorded", "read_recorded", "resample"]

_NEEDED: Final = 0.95  # of the resamplings
_COLUMNS: Final = {
    "mode": ("mode", ""),
    "level": ("promised at most", ".2f"),
    "method": ("method", ""),
    "held": ("held out of 100", ".0f"),
    "risk": ("held-out mean", ".3f"),
    "worst": ("95th percentile", ".3f"),
    "share": ("cloud share", ".1%"),
    "none": ("no setting", ".0%"),
}
_METHODS: Final = ("next prompts", "expectation", "risk control", "measured mean")

Floats = NDArray[np.float64]
Method = Callable[[Floats], int | None]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Losses and cloud shares of one mode, shape (prompts, settings), the most cautious setting first.

    `exact` settings write the cloud's own text by construction.
    """

    mode: Mode
    losses: Floats
    shares: Floats
    exact: list[bool]


@dataclass(frozen=True)
class CalibrationBench:
    """Resamples recorded results.

    Attributes:
        results: files that `updraft calibrate` left beside its profiles.
        metric: disagreement, rejected or mismatch.
        levels: goals, each at confidence 1 - delta.
        fitted: share of the prompts that are calibrated on; the others are held out.
    """

    results: tuple[Path, ...] = ()
    metric: str = "disagreement"
    levels: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5)
    delta: float = 0.05
    resamplings: int = 100
    fitted: float = 0.5
    seed: int = 0
    name = "calibration"

    def __post_init__(self) -> None:
        if not self.results:
            raise ConfigError("There are no results.", remedy="Give the .results.jsonl of `updraft calibrate`.")
        if self.metric not in ("disagreement", "rejected", "mismatch"):
            raise ConfigError(f"The metric is {self.metric!r}; it must be disagreement, rejected or mismatch.")
        if not self.levels or not all(0 < level < 1 for level in self.levels) or not 0 < self.delta < 1:
            raise ConfigError("Levels and delta must be above 0 and below 1.")
        if not 0.1 <= self.fitted <= 0.9 or self.resamplings < 1:
            raise ConfigError("The fitted share must be from 0.1 to 0.9, and there must be a resampling.")

    @property
    def steps(self) -> int:
        return len(self.results)

    async def measure(self, step: Step) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        for path in self.results:
            for recorded in read_recorded(path, self.metric):
                for level in self.levels:
                    rows += self._rows(recorded, level)
            step(path.name)
        promised = [row for row in rows if row["method"] == _METHODS[0]]
        return {"rows": rows, "passed": all(row["held"] >= 100 * _NEEDED for row in promised)}

    def tables(self, results: dict[str, Any]) -> list[Table]:
        title = (
            f"{self.metric} on held-out prompts, {self.resamplings} resamplings; next prompts and expectation at "
            f"confidence {1 - self.delta:g}, risk control on average, measured mean is the baseline"
        )
        return [table_of(title, results["rows"], _COLUMNS)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        figure = new_figure()
        axes = figure.subplots(1, 1)
        for method in _METHODS:
            rows = [row for row in results["rows"] if row["method"] == method]
            style = "--" if method == _METHODS[-1] else "-"
            for mode in dict.fromkeys(row["mode"] for row in rows):
                points = [(row["level"], row["held"]) for row in rows if row["mode"] == mode]
                axes.plot(*zip(*points, strict=True), style, marker="o", label=f"{mode}, {method}")
        axes.axhline(100 * _NEEDED, color="#888888", linewidth=1)
        axes.set_xlabel(f"promised {self.metric} at most")
        axes.set_ylabel("held out of 100 resamplings")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        figure.savefig(path, metadata={"Software": None})
        return True

    def _rows(self, recorded: Recorded, level: float) -> list[dict[str, Any]]:
        held_out = len(recorded.losses) - round(self.fitted * len(recorded.losses))
        sure, mean, exact = Goal(self.metric, level, 1 - self.delta), Goal(self.metric, level), recorded.exact
        methods: tuple[Method, ...] = (
            lambda losses: choose_point(sure, losses, exact, horizon=held_out),
            lambda losses: choose_point(sure, losses, exact),
            lambda losses: choose_point(mean, losses, exact),
            lambda losses: plug_in(losses, level),
        )
        return [
            {"mode": recorded.mode.value, "level": level, "method": name}
            | resample(recorded, method, level, self.resamplings, self.fitted, self.seed)
            for name, method in zip(_METHODS, methods, strict=True)
        ]


def resample(
    recorded: Recorded, method: Method, level: float, times: int, fitted: float, seed: int
) -> dict[str, float]:
    """How a method's choices do on the prompts that it did not see.

    Where it finds no setting, the cloud writes everything, which keeps any promise.

    Returns:
        held: how often, of 100, the held-out mean was within the level; risk, worst: mean and 95th percentile of that
        mean; share: the cloud's; none: how often no setting was found.
    """
    random, count = np.random.default_rng(seed), len(recorded.losses)
    calibrated = round(fitted * count)
    risks, shares, none = [], [], 0
    for _ in range(times):
        order = random.permutation(count)
        chosen = method(recorded.losses[order[:calibrated]])
        none += chosen is None
        risks.append(0.0 if chosen is None else float(recorded.losses[order[calibrated:], chosen].mean()))
        shares.append(1.0 if chosen is None else float(recorded.shares[order[calibrated:], chosen].mean()))
    kept = np.array(risks) <= level + 1e-12
    return {
        "held": 100.0 * float(kept.mean()),
        "risk": float(np.mean(risks)),
        "worst": float(np.quantile(risks, 0.95)),
        "share": float(np.mean(shares)),
        "none": none / times,
    }


def read_recorded(path: Path, metric: str) -> list[Recorded]:
    """Every mode in a results file, with the prompts that all its settings answered.

    Raises:
        InvalidRequest: the file is damaged.
        ConfigError: fewer than 10 prompts were answered under all settings.
    """
    cells = Results.read(path)
    clouds = {cell.prompt: cell for cell in cells if cell.setting == CLOUD_ONLY}
    by_mode: dict[Mode, dict[str, dict[str, Measured]]] = {}
    for cell in cells:
        if cell.setting not in (EDGE_ONLY, CLOUD_ONLY):
            mode = Mode(json.loads(cell.setting)["mode"])
            by_mode.setdefault(mode, {}).setdefault(cell.setting, {})[cell.prompt] = cell
    found = [_recorded(mode, columns, clouds, metric, path) for mode, columns in by_mode.items()]
    if not found:
        raise ConfigError(f"{path} holds no results of any setting.")
    return found


def _recorded(
    mode: Mode, columns: dict[str, dict[str, Measured]], clouds: dict[str, Measured], metric: str, path: Path
) -> Recorded:
    table, _, field = KNOBS[mode].name.partition(".")
    settings = {name: json.loads(name) for name in columns}
    names = sorted(columns, key=lambda name: float(settings[name][table][field]), reverse=not KNOBS[mode].rising)
    prompts = sorted(set.intersection(*(set(column) for column in columns.values())))
    if len(prompts) < 10:
        raise ConfigError(f"{path} has {len(prompts)} prompts with every setting of {mode}; 10 are needed.")
    cells = tuple(tuple(columns[name][prompt] for name in names) for prompt in prompts)
    exact = [lossless(mode, settings[name]) for name in names]
    if mode is Mode.ROUTE:  # one answer stands for every threshold
        cloud = tuple(clouds[prompt] for prompt in prompts)
        every, points = routed(Answers(cells, cloud, cloud), {})
        cells, exact = every.cells, [point.exact for point in points]
    losses = np.array([[value_of(cell, metric) for cell in row] for row in cells], np.float64)
    shares = np.array([[cell.share for cell in row] for row in cells], np.float64)
    return Recorded(mode, losses, shares, exact)
