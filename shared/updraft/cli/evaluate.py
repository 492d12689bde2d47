"""`updraft eval`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from updraft.cli.extras import needs_extra
from updraft.cli.options import JsonOption
from updraft.cli.reporting import examples, print_json, reported, stderr
from updraft.errors import InvalidRequest

if TYPE_CHECKING:
    from rich.table import Table

    from updraft.evaluation.findings import TaskReport
    from updraft.evaluation.job import Findings, Watcher
    from updraft.evaluation.variants import Variant

__all__ = ["register"]

DATA_VARIABLE = "UPDRAFT_DATA"

TaskArgument = Annotated[
    list[str] | None, typer.Argument(metavar="TASK...", help="Names of `--list`, or files of prompts.")
]
DataOption = Annotated[
    Path | None, typer.Option(metavar="DIR", envvar=DATA_VARIABLE, help="Folder with the tasks' data files.")
]
ModeOption = Annotated[list[str] | None, typer.Option(metavar="MODE", help="Also evaluate this mode; may be repeated.")]
SweepOption = Annotated[
    list[str] | None,
    typer.Option(metavar="PATH=V1,V2", help="Values of a mode's setting to try, each with each; may be repeated."),
]
SettingOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="A mode's setting; may be repeated.")
]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option(metavar="'MODE K=V K=V1,V2'", help="A mode with settings and sweeps of its own; may be repeated."),
]
LimitOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Items of each task, the first ones.")]
ShuffleOption = Annotated[bool, typer.Option("--shuffle", help="With --limit: items drawn by the seed.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of sampling, of --shuffle and of the intervals.")]
TemperatureOption = Annotated[float, typer.Option(min=0, max=100, metavar="T", help="0 is greedy.")]
MaxTokensOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Longest answer; the task's own.")]
ShotsOption = Annotated[int, typer.Option(min=0, max=8, metavar="N", help="Worked examples before a gsm8k question.")]
ExecuteCodeOption = Annotated[
    bool,
    typer.Option(
        "--execute-code",
        help="Run programs that the model wrote (humaneval, mbpp), with limits, without network and without writing "
        "to your files. They share the kernel and can read: best in a container.",
    ),
]
UnconfinedCodeOption = Annotated[
    bool,
    typer.Option(
        "--unconfined-code", help="With --execute-code: also where the system can only limit time and memory."
    ),
]
ModelOption = Annotated[str, typer.Option(metavar="NAME|FILE", help="Edge model.")]
CloudModelOption = Annotated[str, typer.Option(metavar="NAME|FILE", help="Cloud model, in a process of its own.")]
CloudOption = Annotated[
    str | None, typer.Option("--cloud", metavar="HOST:PORT", help="A running cloud service instead.")
]
AgentOption = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="A running agent instead; tasks that write only.")
]
ContextOption = Annotated[int, typer.Option(min=64, metavar="N", help="Context of the models, tokens.")]
TogetherOption = Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Items at once.")]
RouterOption = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="Router of the score `learned`; the pair's own.")
]
ResultsOption = Annotated[
    Path, typer.Option(metavar="FILE", help="Results of each item; a run that was cut short goes on from it.")
]
KeepTextOption = Annotated[bool, typer.Option("--keep-text", help="Keep answers in the results file.")]
ReportOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Write an HTML report.")]
ListTasksOption = Annotated[bool, typer.Option("--list", help="List the tasks.")]


def register(app: typer.Typer) -> None:
    app.command(
        "eval",
        epilog=examples(
            "updraft eval arc_easy lambada --data ./data --limit 200",
            "updraft eval spec_bench --data ./data --limit 20 --mode span --sweep span.escalate=0.5,1,2,3 "
            "--report eval.html",
            'updraft eval wikitext2 --data ./data --limit 50 --policy "span score=margin escalate=0.3,0.6,0.9"',
            "updraft eval gsm8k --data ./data --limit 50 --shots 4 --mode cascade --sweep acceptance.alpha=0.2,0.5,0.8",
            "updraft eval --list",
        ),
    )(evaluate)


@reported
def evaluate(
    task: TaskArgument = None,
    data: DataOption = None,
    mode: ModeOption = None,
    sweep: SweepOption = None,
    setting: SettingOption = None,
    policy: PolicyOption = None,
    limit: LimitOption = None,
    shuffle: ShuffleOption = False,
    seed: SeedOption = 0,
    temperature: TemperatureOption = 0.0,
    max_tokens: MaxTokensOption = None,
    shots: ShotsOption = 0,
    execute_code: ExecuteCodeOption = False,
    unconfined_code: UnconfinedCodeOption = False,
    model: ModelOption = "smollm2-q4_0",
    cloud_model: CloudModelOption = "smollm2",
    cloud: CloudOption = None,
    agent: AgentOption = None,
    context: ContextOption = 1024,
    together: TogetherOption = 2,
    router: RouterOption = None,
    results: ResultsOption = Path("eval-results.jsonl"),
    keep_text: KeepTextOption = False,
    report: ReportOption = None,
    list_tasks: ListTasksOption = False,
    as_json: JsonOption = False,
) -> None:
    """Quality of modes on real tasks, against edge only, cloud only, random escalation and the oracle.

    Edge only and cloud only are always run. A policy's settings are compared at their share of the cloud with a random
    choice of the same share, and with an oracle that knows where the edge errs; intervals are of a bootstrap over
    items. Tasks of given text are judged in the modes edge, cloud and span.
    """
    if list_tasks:
        _list(as_json)
        return
    from updraft.evaluation.job import Evaluation
    from updraft.evaluation.runner import Run
    from updraft.evaluation.tasks import TaskOptions
    from updraft.evaluation.tiers import PairOptions
    from updraft.logging_setup import configure_logging
    from updraft.sampling import SamplingParams

    if not task:
        raise InvalidRequest("No task is named.", remedy="`updraft eval --list` shows them.", param="task")
    configure_logging("error", "text")
    evaluation = Evaluation(
        tasks=task,
        run=Run(
            data=_data_folder(data, task),
            variants=_variants(mode, sweep, setting, policy),
            options=TaskOptions(
                max_tokens=max_tokens, shots=shots, execute_code=execute_code, unconfined_code=unconfined_code
            ),
            sampling=SamplingParams(temperature=temperature, seed=seed),
            limit=limit,
            shuffle=shuffle,
            together=together,
            router=router,
        ),
        pair=PairOptions(model, cloud_model, cloud, context, together, router),
        agent=agent,
        results=results,
        keep_text=keep_text,
    )
    with needs_extra("edge"), _progress() as watcher:
        found = asyncio.run(evaluation.measure(watcher))
    if report is not None:
        from updraft.evaluation.report import eval_page

        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(eval_page(found), encoding="utf-8")
    if as_json:
        print_json(found.record() | {"results": str(results), "report": report and str(report)})
        return
    _show(found)
    typer.echo(f"results of each item: {results}" + (f"\nreport: {report}" if report else ""))


def _data_folder(data: Path | None, tasks: list[str]) -> Path:
    """The folder; tasks that are files of their own need none."""
    if data is not None:
        if not data.is_dir():
            raise InvalidRequest(f"{data} is no folder.", remedy="Name the folder of the data files.", param="data")
        return data
    if all(Path(name).suffix for name in tasks):
        return Path()
    raise InvalidRequest(
        "The tasks' data files are not part of Updraft.",
        remedy=f"Name their folder with --data, or in {DATA_VARIABLE}.",
        param="data",
    )


def _variants(
    modes: list[str] | None, sweeps: list[str] | None, settings: list[str] | None, policies: list[str] | None
) -> list[Variant]:
    from updraft.evaluation.variants import mode_policy, parse_policy

    texts = [mode_policy(mode, sweeps or [], settings or []) for mode in modes or []]
    used = {word for text in texts for word in text.split()}
    lost = [item for item in [*(sweeps or []), *(settings or [])] if item not in used]
    if lost:
        raise InvalidRequest(
            f"{lost[0]!r} belongs to no mode that is evaluated.", remedy="Name the mode with --mode.", param="sweep"
        )
    return [variant for text in [*texts, *(policies or [])] for variant in parse_policy(text)]


def _list(as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from updraft.evaluation.tasks import TaskOptions, make_task, task_names

    tasks = [make_task(name, TaskOptions()) for name in task_names()]
    if as_json:
        print_json([{"task": task.name, "measure": task.metric, "what": task.summary} for task in tasks])
        return
    table = Table("task", "measure", "what")
    for task in tasks:
        table.add_row(task.name, task.metric, task.summary)
    Console().print(table)


@contextlib.contextmanager
def _progress() -> Iterator[Watcher]:
    """A bar a task on standard error."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from updraft.evaluation.job import Watcher

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr()) as bars:
        ids: dict[str, Any] = {}

        def begin(name: str, steps: int) -> None:
            ids[name] = bars.add_task(name, total=steps)

        def say(line: str) -> None:
            bars.console.print(line, style="dim", markup=False, soft_wrap=True)

        yield Watcher(say, begin, lambda name: bars.advance(ids[name]))


def _show(found: Findings) -> None:
    from rich.console import Console

    from updraft.evaluation.findings import FEW_ITEMS, verdict

    console = Console()
    for report in found.reports:
        console.print(_rows(report, found.pair))
        if report.skipped:
            console.print(f"Left out, because they did not fit the context: {report.skipped} items.", highlight=False)
        if report.items < FEW_ITEMS:
            console.print(f"Only {report.items} items: the intervals are too narrow to tell by.", highlight=False)
        for curve in report.curves:
            gain = "" if curve.gain is None else f"; {curve.gain:.0%} of the oracle's gain"
            line = f"{verdict(curve)} Area above random {curve.area_above_random:.3g}{gain}."
            console.print(line, highlight=False, markup=False)


def _rows(report: TaskReport, pair: str) -> Table:
    from rich.table import Table

    from updraft.evaluation.report import figures_of

    names = list(report.rows[0].measures)[1:]
    table = Table(title=f"{report.task}, {report.items} items, {pair}")
    table.add_column("variant", min_width=32)
    for name in (report.metric, *names, "cloud share", "s/item"):
        table.add_column(name)
    for row in report.rows:
        others = [f"{row.measures[name]:.3g}" if name in row.measures else "" for name in names]
        table.add_row(row.variant, figures_of(row), *others, f"{row.share:.1%}", f"{row.seconds_per_item:.3g}")
    return table
