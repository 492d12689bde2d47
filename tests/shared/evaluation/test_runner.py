"""Runs: every item with every variant, once, whatever happens in between; and what is made of the outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.shared.evaluation.subjects import ScriptedSubject
from updraft.errors import CloudUnavailable, InvalidRequest, PromptTooLong
from updraft.evaluation.analysis import analyse
from updraft.evaluation.findings import TaskReport, verdict
from updraft.evaluation.job import Findings
from updraft.evaluation.report import eval_page
from updraft.evaluation.results import Results
from updraft.evaluation.runner import Run, TaskRun, choose_items, run_task
from updraft.evaluation.subject import ScoreMemory, Subject
from updraft.evaluation.tasks.base import Item, Outcome, TaskOptions, mean_measures
from updraft.evaluation.variants import CLOUD, EDGE, Variant, parse_policy
from updraft.modes import Mode
from updraft.sampling import Sampled, SamplingParams

PAIR = {"edge": "e", "cloud": "c"}
SPAN = parse_policy("span escalate=1.5,2")


@dataclass
class Puzzle:
    """A task whose outcomes are written down: quality by item for edge and cloud, between them for others."""

    edge: Sequence[float] = (0.0, 1.0, 0.0, 1.0)
    cloud: Sequence[float] = (1.0, 1.0, 0.0, 0.0)
    signals: Sequence[float] = (3.0, 1.0, 2.0, 0.0)
    share: float = 0.5
    quality: Sequence[float] | None = None
    units: bool = False
    given: bool = False
    compares: bool = False
    fails: set[str] = field(default_factory=set)
    too_long: set[str] = field(default_factory=set)
    runs: list[tuple[str, bool]] = field(default_factory=list)
    refers: int = 0
    name = "puzzle"
    summary = "a puzzle"
    metric = "acc"

    def items(self, data: Path) -> list[Item[Any]]:
        return [Item(str(place), place) for place in range(len(self.edge))]

    async def refer(self, item: Item[Any], cloud: Subject) -> Outcome | None:
        self.refers += self.compares
        return Outcome(1.0, token_ids=[1]) if self.compares else None

    async def run(self, item: Item[Any], subject: Subject, reference: Outcome | None) -> Outcome:
        assert isinstance(subject, Marked)
        await asyncio.sleep(0)
        if item.id in self.too_long:
            raise PromptTooLong("too long")
        if item.id in self.fails:
            raise CloudUnavailable("gone")
        self.runs.append((item.id, reference is not None))
        place, variant = item.content, subject.variant
        score = {EDGE: self.edge, CLOUD: self.cloud}.get(variant, self.quality or self.cloud)[place]
        share = {EDGE: 0.0, CLOUD: 1.0}.get(variant, self.share)
        units = [score, score] if self.units else []
        doubts = [self.signals[place], 0.5] if self.units else []
        tokens = [1] if self.compares and variant is CLOUD else []
        signals = {"entropy": self.signals[place]}
        return Outcome(score, {"m": 1.0}, units, doubts, share, 10, int(10 * share), signals=signals, token_ids=tokens)

    def totals(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        return mean_measures(self.metric, outcomes)


@dataclass
class Marked(ScriptedSubject):
    variant: Variant = EDGE


def plan(**changes: Any) -> Run:
    fields: dict[str, Any] = {
        "data": Path(),
        "variants": SPAN,
        "options": TaskOptions(),
        "sampling": SamplingParams(seed=0),
    }
    return Run(**fields | changes)


async def solve(task: Puzzle, run: Run, path: Path | None = None) -> TaskRun:
    with Results(path, PAIR) as results:
        items = choose_items(run, task)
        return await run_task(run, task, items, lambda v: Marked(variant=v), results, lambda name: None)


async def report_of(task: Puzzle, run: Run | None = None) -> TaskReport:
    return analyse(await solve(task, run or plan()))


async def test_every_item_meets_every_variant_once_and_never_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    task = Puzzle()
    done = await solve(task, plan(), path)
    assert list(done.outcomes) == [CLOUD, EDGE, *SPAN]
    assert done.items == ["0", "1", "2", "3"]
    assert len(task.runs) == 16
    again = Puzzle()
    same = await solve(again, plan(), path)
    assert again.runs == []
    assert [o.score for o in same.outcomes[EDGE]] == [o.score for o in done.outcomes[EDGE]]
    more = Puzzle()
    await solve(more, plan(variants=parse_policy("span escalate=1.5,2,3")), path)
    assert len(more.runs) == 4
    other = Puzzle()
    await solve(other, plan(sampling=SamplingParams(seed=1)), path)
    assert len(other.runs) == 16


@pytest.mark.parametrize("together", [1, 3])
async def test_an_interrupted_run_goes_on_where_it_stood(tmp_path: Path, together: int) -> None:
    path = tmp_path / "results.jsonl"
    broken = Puzzle(fails={"2"})
    with pytest.raises(CloudUnavailable):
        await solve(broken, plan(together=together), path)
    assert broken.runs
    mended = Puzzle()
    await solve(mended, plan(together=together), path)
    assert len(broken.runs) + len(mended.runs) == 16


async def test_what_is_compared_with_is_asked_for_only_where_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    written = Puzzle(compares=True)
    await solve(written, plan(), path)
    assert written.refers == 0  # the cloud's own run is the reference
    assert written.runs.count(("0", True)) == 3
    resumed = Puzzle(compares=True)
    await solve(resumed, plan(variants=parse_policy("span escalate=1.5,2,3")), path)
    assert resumed.refers == 4 and len(resumed.runs) == 4
    given = Puzzle(compares=True, given=True)
    await solve(given, plan())
    assert given.refers == 4 and all(compared for _, compared in given.runs)


def test_scores_are_asked_for_once_while_they_are_remembered() -> None:
    asked: list[object] = []

    class Asked:
        async def score_branches(self, prompt: object, branches: object, **options: Any) -> list[list[Sampled]]:
            asked.append((prompt, options["settings"].mode))
            if prompt == [9]:
                raise CloudUnavailable("gone")
            return [[]]

    async def check() -> None:
        memory = ScoreMemory(Asked(), most=2)  # type: ignore[arg-type]
        await asyncio.gather(*(memory.scores(Mode.EDGE, [1], [[2]], 0) for _ in range(3)))
        await memory.scores(Mode.CLOUD, [1], [[2]], 0)
        assert len(asked) == 2
        await memory.scores(Mode.EDGE, [3], [[2]], 0)
        await memory.scores(Mode.EDGE, [1], [[2]], 0)  # the oldest was forgotten
        assert len(asked) == 4
        for _ in range(2):  # a failure is not remembered
            with pytest.raises(CloudUnavailable):
                await memory.scores(Mode.EDGE, [9], [[2]], 0)
        assert len(asked) == 6

    asyncio.run(check())


async def test_items_that_do_not_fit_are_left_out_of_every_variant() -> None:
    done = await solve(Puzzle(too_long={"1"}), plan())
    assert (done.items, done.skipped) == (["0", "2", "3"], ["1"])
    assert {len(outcomes) for outcomes in done.outcomes.values()} == {3}
    with pytest.raises(PromptTooLong, match="No item of puzzle"):
        await solve(Puzzle(too_long={"0", "1", "2", "3"}), plan())


def test_items_are_the_first_or_drawn_by_the_seed() -> None:
    task = Puzzle(edge=[0.0] * 50)
    assert [item.id for item in choose_items(plan(limit=3), task)] == ["0", "1", "2"]
    drawn = [item.content for item in choose_items(plan(limit=9, shuffle=True), task)]
    assert drawn == sorted(drawn) and len(set(drawn)) == 9 and drawn != list(range(9))
    assert drawn == [item.content for item in choose_items(plan(limit=9, shuffle=True), task)]
    with pytest.raises(InvalidRequest, match="puzzle has no items"):
        choose_items(plan(), Puzzle(edge=[]))


def test_given_text_is_judged_by_three_modes_only() -> None:
    run = plan(variants=[*SPAN, *parse_policy("cascade"), *parse_policy("edge")])
    assert [variant.name for variant in run.of(Puzzle(given=True))] == [
        "cloud",
        "edge",
        "span escalate=1.5",
        "span escalate=2",
    ]
    assert len(run.of(Puzzle())) == 5


async def test_curves_lie_between_the_tiers_random_line_and_the_oracle() -> None:
    # Edge 0 1 0 1, cloud 1 1 0 0: both 0.5; the oracle sends the first item and has 0.75 from a quarter on.
    report = await report_of(Puzzle(quality=(1.0, 1.0, 0.0, 1.0)))
    assert report.rows[0].measures["acc"] == report.rows[-1].measures["acc"] == 0.5
    oracle = dict((round(share, 2), height) for share, height in report.oracle)
    assert oracle[0.0] == 0.5 and oracle[0.25] == oracle[1.0] == 0.75
    span = next(curve for curve in report.curves if curve.level == "written")
    # Two points at share 0.5 and quality 0.75 between 0.5 and 0.5: a triangle of mean height 0.125.
    assert [(point.share, point.quality, point.above_random) for point in span.points] == [(0.5, 0.75, 0.25)] * 2
    assert span.area_above_random == pytest.approx(0.125)
    # The oracle at shares 0, 0.5 and 1: 0.5, 0.75, 0.75; its area above random is 0.1875.
    assert span.gain == pytest.approx(0.125 / 0.1875)


async def test_whole_items_are_sent_by_the_edges_own_signals() -> None:
    report = await report_of(Puzzle(signals=(9.0, 1.0, 2.0, 0.0)))
    item = next(curve for curve in report.curves if curve.policy == "item by entropy")
    # The signal puts the item that gains first and the one that loses last: the oracle, until it must send that, too.
    heights = {round(point.share, 2): point.quality for point in item.points}
    assert heights[0.25] == heights[0.75] == 0.75
    assert item.gain is not None and 0.8 < item.gain < 1.0
    worst = await report_of(Puzzle(signals=(0.0, 1.0, 2.0, 9.0)))
    curve = next(curve for curve in worst.curves if curve.policy == "item by entropy")
    assert curve.gain is not None and curve.gain < 0
    constant = await report_of(Puzzle(signals=(1.0, 1.0, 1.0, 1.0)))
    assert [curve.policy for curve in constant.curves] == ["span"]


async def test_token_level_curves_are_of_tokens() -> None:
    report = await report_of(Puzzle(given=True, units=True))
    assert report.token_ends == (0.5, 0.5) and report.token_oracle[-1][1] == 0.75
    assert next(curve for curve in report.curves if curve.policy == "span").level == "tokens"


async def test_single_tokens_are_sent_by_the_entropy_at_them() -> None:
    # Tokens gain 1 (two of the first item) or lose 1 (two of the last); 9 and 0 mark one of each, 0.5 all others.
    report = await report_of(Puzzle(given=True, units=True, signals=(9.0, 0.5, 0.5, 0.0)))
    curve = next(curve for curve in report.curves if curve.policy == "token by entropy")
    heights = {round(point.share, 2): point.quality for point in curve.points}
    assert heights[0.1] == pytest.approx(0.6) and heights[0.5] == pytest.approx(0.625)
    assert curve.level == "tokens" and curve.gain is not None and 0 < curve.gain < 1


async def test_verdicts_say_plainly_what_beats_random() -> None:
    many = 40
    hard = [place % 2 for place in range(many)]
    task = Puzzle(
        edge=[float(1 - bad) for bad in hard],
        cloud=[1.0] * many,
        signals=[float(bad) for bad in hard],
        quality=[1.0] * many,
    )
    report = await report_of(task)
    said = {curve.policy: verdict(curve) for curve in report.curves}
    assert said["item by entropy"].endswith("beats random escalation at every share that was tried.")
    assert said["span"].startswith("span beats random escalation")
    on_the_line = Puzzle(edge=task.edge, cloud=task.cloud, signals=[float(p * 7 % 40) for p in range(many)])
    on_the_line.quality = [edge if place % 4 < 2 else 1.0 for place, edge in enumerate(task.edge)]
    said = {curve.policy: verdict(curve) for curve in (await report_of(on_the_line)).curves}
    assert "does not beat random" in said["span"]
    worse = Puzzle(edge=task.edge, cloud=task.cloud, signals=[-float(bad) for bad in hard], quality=task.edge)
    said = {curve.policy: verdict(curve) for curve in (await report_of(worse)).curves}
    assert said["item by entropy"] == "item by entropy is worse than random escalation."


async def test_the_report_is_one_page_and_its_record_is_json() -> None:
    report = await report_of(Puzzle(too_long={"3"}))
    found = Findings("small <b> and large", PAIR, "greedy, seed 0", [report])
    html = eval_page(found)
    assert (
        "small &lt;b&gt; and large" in html and "<svg" in html and "http" not in html.replace("http://www.w3.org", "")
    )
    assert "Only 3 items" in html and "did not fit the context: 1 items" in html and "item by entropy" in html
    record = found.record()
    assert record["tasks"][0]["metric"] == "acc" and record["verdicts"]["puzzle"]

    def finite(value: Any) -> bool:
        if isinstance(value, dict):
            return all(map(finite, value.values()))
        if isinstance(value, list):
            return all(map(finite, value))
        return not isinstance(value, float) or bool(np.isfinite(value))

    assert finite(record)
