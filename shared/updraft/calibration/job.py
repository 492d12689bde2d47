"""A calibration from end to end: both tiers, the measurements, the fit, and the profile."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from updraft import __version__
from updraft.calibration.fit import Fit, choose
from updraft.calibration.goals import Goal
from updraft.calibration.grid import GridPoint
from updraft.calibration.measure import Progress, collect
from updraft.calibration.pair import Pair
from updraft.calibration.prompts import CalibrationPrompt
from updraft.calibration.results import Measured, Results, Table, value_of
from updraft.calibration.route import collect_routes
from updraft.chat_template import ChatTemplate
from updraft.cloud_process import CloudProcess
from updraft.config import CloudLinkSettings, CloudSettings, EdgeSettings, ListenSettings
from updraft.demo.cores import CoreSplit, pinned, split_cores, usable_cores
from updraft.errors import ConfigError, TokenizerMismatch
from updraft.evaluation.curves import bootstrap
from updraft.modes import Mode
from updraft.profiles import CurvePoint, ModelIdentity, Profile

__all__ = ["Calibration", "Outcome", "calibrate", "results_path", "running_pair"]

Emulated = Callable[[str], AbstractAsyncContextManager[str]]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What to measure and what for.

    Attributes:
        points: the grid; none in mode `route`, whose thresholds follow from the scores.
        base: settings that hold at every point.
    """

    prompts: Sequence[CalibrationPrompt]
    mode: Mode
    points: Sequence[GridPoint]
    goal: Goal
    max_tokens: int
    horizon: int | None = None
    base: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished calibration; `points` are those that were judged, in the order of the profile's curve."""

    profile: Profile
    table: Table
    fit: Fit
    points: Sequence[GridPoint]


def results_path(profile: Path) -> Path:
    """Where the results of single answers lie: next to the profile."""
    return profile.with_suffix(".results.jsonl")


async def calibrate(pair: Pair, task: Calibration, path: Path, progress: Progress) -> Outcome:
    """Measure (or go on measuring) into the results file at `path`, and fit.

    Raises:
        GoalUnreachable: no setting meets the goal; the results are kept for another one.
        CloudUnavailable: the cloud went away; the same call goes on where this one ended.
        ConfigError, InvalidRequest: the results file is of another pair, or damaged.
    """
    about = {
        "edge": pair.edge.fingerprint,
        "cloud": pair.cloud.fingerprint,
        "max_tokens": task.max_tokens,
        "round_trip_ms": pair.round_trip_ms,
    }
    with contextlib.closing(Results(path, about)) as results:
        table, points = await _measured(pair, task, results, progress)
    fit = choose(task.goal, table, points, horizon=task.horizon)
    return Outcome(_profile(pair, task, table, points, fit), table, fit, points)


async def _measured(
    pair: Pair, task: Calibration, results: Results, progress: Progress
) -> tuple[Table, Sequence[GridPoint]]:
    options: dict[str, Any] = {"max_tokens": task.max_tokens, "progress": progress}
    if task.mode is Mode.ROUTE:
        return await collect_routes(pair, task.prompts, task.base, results, **options)
    return await collect(pair, task.prompts, task.mode, task.points, results, **options), task.points


@contextlib.asynccontextmanager
async def running_pair(
    settings: EdgeSettings,
    cloud_model: str | None,
    *,
    emulated: Emulated | None = None,
    round_trip_ms: float | None = None,
) -> AsyncIterator[Pair]:
    """An agent in this process, and the cloud: the configured one, or a process that is started with `cloud_model`.

    Args:
        emulated: puts a link between the two; takes the cloud's address and gives the one to connect to.

    Raises:
        CloudUnavailable: the cloud does not answer or did not start.
        TokenizerMismatch: the models cannot work together.
        MissingExtra, ModelError: a model cannot be used.
    """
    from updraft.models import model_info, resolve
    from updraft_edge.agent import Agent

    split = split_cores(usable_cores())
    async with contextlib.AsyncExitStack() as stack:
        address = settings.cloud.address
        # The address that nobody configured is no reason to expect a cloud there.
        if cloud_model is not None or address is None or address == CloudLinkSettings().address:
            stack.enter_context(pinned(split.edge))  # before the engine's threads start
            settings = settings.model_copy(update={"threads": settings.threads or split.threads})
            cloud = CloudProcess(_cloud_settings(settings, cloud_model or "smollm2", split))
            address = (await stack.enter_async_context(cloud)).address
        if emulated is not None:
            address = await stack.enter_async_context(emulated(address))
        link = settings.cloud.model_copy(update={"address": address})
        agent = await stack.enter_async_context(Agent(settings.model_copy(update={"cloud": link, "local_only": False})))
        if agent.link is None:
            raise ConfigError("The agent is local only; a calibration needs the cloud.")
        edge, described = model_info(resolve(settings.model)), await agent.link.describe()
        if edge.tokenizer_hash != described.tokenizer_hash:
            raise TokenizerMismatch(f"{edge.name} and {described.model} have different tokenizers.")
        yield Pair(
            agent,
            ModelIdentity(name=Path(settings.model).name, fingerprint=edge.fingerprint),
            ModelIdentity(name=described.model, fingerprint=described.fingerprint),
            edge.tokenizer_hash,
            ChatTemplate(edge.chat_template, bos="", eos=""),
            round_trip_ms,
        )


def _cloud_settings(edge: EdgeSettings, model: str, split: CoreSplit) -> CloudSettings:
    return CloudSettings(
        model=model,
        context=edge.context,
        sequences=4,
        threads=split.threads,
        cores=split.cloud,
        listen=ListenSettings(port=0),
        drain_s=0.2,
        log_level="warning",
    )


def _profile(pair: Pair, task: Calibration, table: Table, points: Sequence[GridPoint], fit: Fit) -> Profile:
    curve = [_curve_point(point.value, table.column(place)) for place, point in enumerate(points)]
    return Profile(
        edge=pair.edge,
        cloud=pair.cloud,
        tokenizer_hash=pair.tokenizer_hash,
        mode=task.mode,
        settings=points[fit.chosen].settings,
        goal=str(task.goal),
        guarantee=fit.guarantee,
        prompts=len(task.prompts),
        max_tokens=task.max_tokens,
        round_trip_ms=pair.round_trip_ms,
        curve=tuple(curve),
        chosen=fit.chosen,
        edge_only=_curve_point(0.0, table.edge),
        cloud_only=_curve_point(0.0, table.cloud),
        version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _curve_point(value: float, cells: Sequence[Measured]) -> CurvePoint:
    """Means over answers; of passes, bytes and money over tokens."""
    tokens = max(1, sum(cell.tokens for cell in cells))
    count = len(cells)
    disagreements = [cell.disagreement for cell in cells]
    low, high = bootstrap(disagreements, lambda rows: float(rows.mean()))
    sums: dict[str, Any] = {
        "disagreement": sum(disagreements) / count,
        "rejected": sum(cell.rejected for cell in cells) / count,
        "mismatch": sum(cell.mismatch for cell in cells) / count,
        "share": sum(cell.share for cell in cells) / count,
        "token_ms": sum(value_of(cell, "token_ms") for cell in cells) / count,
        "passes_per_token": sum(cell.passes for cell in cells) / tokens,
        "bytes_per_token": sum(cell.bytes for cell in cells) / tokens,
        "cost": 1e3 * sum(cell.cost for cell in cells) / tokens,
    }
    return CurvePoint(value=value, low=low, high=high, **sums)
