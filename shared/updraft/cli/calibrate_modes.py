"""`updraft calibrate`: thresholds of a mode for a goal, on the user's own prompts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from updraft.cli.options import CloudOption, ConfigOption, DeviceOption, JsonOption, ModelOption, SetOption, overrides
from updraft.cli.reporting import examples, print_json, reported, stderr
from updraft.errors import InvalidRequest, MissingExtra

if TYPE_CHECKING:
    from updraft.calibration.job import Calibration, Emulated, Outcome
    from updraft.profiles import Profile

__all__ = ["EPILOG", "calibrate"]

EPILOG = examples(
    "updraft calibrate --prompts prompts.jsonl --mode cascade --goal 'disagreement<=0.05@0.9' --out mine",
    "updraft calibrate --prompts prompts.txt --mode span --goal 'share<=0.2' --report curve.html",
    "updraft run --set mode.profile=mine 'Why is the sky blue?'",
    "updraft calibrate exits ./smollm2-staged --text text.jsonl",
)


@reported
def calibrate(
    context: typer.Context,
    prompts: Annotated[
        str | None, typer.Option(metavar="FILE", help="JSON lines, a JSON array, or text; `-` is standard input.")
    ] = None,
    mode: Annotated[str, typer.Option(metavar="MODE", help="span, cascade, route or reason.")] = "cascade",
    goal: Annotated[
        str,
        typer.Option(
            metavar="METRIC<=LEVEL",
            help="disagreement, rejected, mismatch, share, token_ms or cost; @0.9 behind it asks for that confidence.",
        ),
    ] = "disagreement<=0.05@0.9",
    out: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="The profile; the mode's name when left out.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with the curves, and a picture beside it.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Prompts to take, drawn at random; all if left out.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, max=8192, metavar="N", help="Longest answer, tokens.")] = 48,
    grid: Annotated[
        str | None, typer.Option(metavar="X,Y,...", help="Values of the mode's knob to measure, chosen beforehand.")
    ] = None,
    score: Annotated[str | None, typer.Option(metavar="NAME", help="Score of span (with --grid) or route.")] = None,
    following: Annotated[
        int | None, typer.Option("--next", min=1, metavar="N", help="Promise about the next N prompts' mean instead.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws and orders the prompts.")] = 0,
    model: ModelOption = None,
    cloud_model: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Start a cloud with this model; smollm2 if none runs.")
    ] = None,
    cloud: CloudOption = None,
    round_trip: Annotated[float | None, typer.Option(min=0.0, metavar="MS", help="Emulate a link.")] = None,
    device: DeviceOption = None,
    show: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Print a profile and end.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Print the names of the profiles and end.")] = False,
    config: ConfigOption = None,
    setting: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit a mode's threshold to a goal on your own prompts, and keep it as a profile of this pair of models.

    Every setting of a grid answers every prompt for real; results of single answers are kept beside the profile, so
    that an interrupted run goes on where it ended. The disagreement of an answer is its token edit distance to the
    cloud's own text; rejected are tokens that the cloud would not have chosen after the text before them, which is
    kinder to modes that do not go back. A goal on disagreement, rejected, mismatch or share comes with a promise:
    with @CONFIDENCE at that confidence over the prompts, without on average.
    """
    if context.invoked_subcommand is not None:
        return
    if list_ or show is not None:
        _show(show, as_json=as_json)
        return
    from updraft.calibration.goals import parse_goal
    from updraft.calibration.job import Calibration
    from updraft.calibration.prompts import read_prompts
    from updraft.profiles import profile_path, save_profile

    if prompts is None:
        raise InvalidRequest("There are no prompts.", remedy="Give a file with --prompts.", param="prompts")
    chosen = _mode(mode)
    base = _base(chosen, score)
    target = profile_path(out or chosen)
    task = Calibration(
        prompts=read_prompts(prompts, most=count, seed=seed),
        mode=chosen,
        points=_points(chosen, grid, base),
        base=base,
        goal=parse_goal(goal),
        max_tokens=max_tokens,
        horizon=following,
    )
    own = overrides(setting, model=model, device=device, cloud__address=cloud)
    outcome = _run(task, target, config, own, cloud_model, round_trip)
    save_profile(outcome.profile, target)
    files = [target, *_write_report(outcome, task, report)]
    _summary(outcome.profile, as_json=as_json)
    stderr().print(*(f"written: {file}" for file in files), sep="\n", markup=False, soft_wrap=True)


def _run(
    task: Calibration,
    target: Path,
    config: Path | None,
    own: dict[str, Any],
    cloud_model: str | None,
    round_trip: float | None,
) -> Outcome:
    from updraft.calibration.job import calibrate, results_path, running_pair
    from updraft.cli.extras import needs_extra
    from updraft.config import load_edge_settings
    from updraft.logging_setup import configure_logging

    with needs_extra("edge,cloud"):
        import updraft_edge.agent  # noqa: F401  # its libraries, before anything is started
    configure_logging("error", "text")
    settings = load_edge_settings(config, **own)

    async def work() -> Outcome:
        with _progress() as progress:
            pair = running_pair(settings, cloud_model, emulated=_emulated(round_trip), round_trip_ms=round_trip)
            async with pair as running:
                return await calibrate(running, task, results_path(target), progress)

    return asyncio.run(work())


def _emulated(round_trip: float | None) -> Emulated | None:
    if round_trip is None:
        return None
    from updraft.cli.bench import bench_module

    tiers = bench_module("tiers")

    @contextlib.asynccontextmanager
    async def relayed(address: str) -> AsyncIterator[str]:
        async with tiers.relay_to(address, round_trip_s=round_trip / 1e3) as relay:
            yield relay.address

    return relayed


def _mode(name: str) -> Any:
    from updraft.modes import parse_settings

    return parse_settings({"mode": name}).mode


def _points(mode: Any, grid: str | None, base: dict[str, Any]) -> Any:
    """The grid; none for mode `route`, whose thresholds follow from the scores."""
    from updraft.calibration.grid import make_grid
    from updraft.modes import Mode

    if mode is Mode.ROUTE:
        if grid is not None:
            raise InvalidRequest("Mode route tries every threshold; leave out --grid.", param="grid")
        make_grid(mode, [0.0], base)  # refuses a score that does not exist
        return []
    try:
        values = [float(value) for value in grid.split(",")] if grid is not None else None
    except ValueError as error:
        raise InvalidRequest(f"--grid was given {grid!r}; it must be numbers with commas.", param="grid") from error
    if base and values is None:
        raise InvalidRequest("--score needs --grid: every score has a scale of its own.", param="score")
    return make_grid(mode, values, base)


def _base(mode: Any, score: str | None) -> dict[str, Any]:
    from updraft.modes import Mode

    if score is None:
        return {}
    if mode not in (Mode.SPAN, Mode.ROUTE):
        raise InvalidRequest("--score is for span and route.", param="score")
    return {str(mode): {"score": score}}


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where that is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = stderr()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("answers", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _write_report(outcome: Outcome, task: Calibration, path: Path | None) -> list[Path]:
    if path is None:
        return []
    from updraft.calibration.report import draw_png, report_page

    path.write_text(report_page(outcome, task), encoding="utf-8")
    picture = path.with_suffix(".png")
    try:
        draw_png(outcome, picture)
    except MissingExtra as error:
        stderr().print(f"no picture: {error.message} {error.remedy}", markup=False, soft_wrap=True)
        return [path]
    return [path, picture]


def _show(name: str | None, *, as_json: bool) -> None:
    from updraft.profiles import list_profiles, profiles_folder, read_profile

    if name is not None:
        _summary(read_profile(name), as_json=as_json)
    elif as_json:
        print_json({"folder": str(profiles_folder()), "profiles": list_profiles()})
    else:
        typer.echo("\n".join(list_profiles()) or f"There are no profiles in {profiles_folder()}.")


def _summary(profile: Profile, *, as_json: bool) -> None:
    if as_json:
        print_json(profile.model_dump(mode="json"))
        return
    from rich.console import Console
    from rich.table import Table

    from updraft.calibration.grid import KNOBS
    from updraft.profiles import some_points

    table = Table(box=None, pad_edge=False)
    for column in (
        KNOBS[profile.mode].name,
        "agreement",
        "tokens agree",
        "cloud share",
        "ms/token",
        "passes/token",
        "",
    ):
        table.add_column(column, justify="right")
    places = some_points(profile)
    rows = [(f"{profile.curve[place].value:g}", profile.curve[place]) for place in places]
    rows += [(name, point) for name, point in (("edge", profile.edge_only), ("cloud", profile.cloud_only)) if point]
    for place, (name, point) in enumerate(rows):
        table.add_row(
            name,
            f"{1 - point.disagreement:.1%}",
            f"{1 - point.rejected:.1%}",
            f"{point.share:.1%}",
            f"{point.token_ms:.1f}",
            f"{point.passes_per_token:.3f}",
            "<- chosen" if place == places.index(profile.chosen) else "",
        )
    console = Console()
    console.print(f"{profile.mode} for {profile.edge.name} and {profile.cloud.name}, goal {profile.goal}", markup=False)
    console.print(table)
    console.print(profile.guarantee, markup=False, soft_wrap=True)
