"""The bench of mode reason: what is measured, and how right and wrong steps are told apart."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bench.reason import COST, JUDGE, QUALITY, ReasonBench, reason_row
from bench.reason_judge import Separation, pairs, separation
from tests.bench.answers import answer
from updraft.errors import ConfigError, InvalidRequest
from updraft.evaluation.tasks.gsm8k import Problem

PROBLEM = Problem("How many?", "She has 2 + 3 = 5 eggs.\nNo number here.\n#### 5", Decimal(5))


def test_a_pair_differs_in_one_number_of_one_step() -> None:
    problems = [PROBLEM, Problem("Why?", "Because.\n#### 1", Decimal(1)), PROBLEM]
    found = pairs(problems, 9, seed=1)
    assert len(found) == 2
    assert pairs(problems, 9, seed=1) == found
    assert found[0].right == "She has 2 + 3 = 5 eggs."
    assert found[0].wrong != found[0].right
    assert found[0].wrong.startswith("She has 2 + 3 = ")
    assert found[0].before == ""


def test_separation_is_one_for_grades_that_know_and_a_half_for_those_that_do_not() -> None:
    knows = separation(Separation([8.0, 9.0], [1.0, 2.0]))
    assert (knows["area"], knows["paired"], knows["judged"]) == (1.0, 1.0, 2)
    blind = separation(Separation([5.0, 5.0], [5.0, 5.0]))
    assert (blind["area"], blind["paired"], blind["spread"]) == (0.5, 0.5, 0.0)
    assert separation(Separation([], []))["area"] == 0.5


def test_a_row_counts_steps_and_compares_with_the_cloud() -> None:
    cloud = [answer([1, 2, 3], text="The answer is 5.")]
    counts: dict[str, Any] = {
        "steps": 4,
        "steps_rewritten": 1,
        "step_scores": [7.0, 8.0, 6.0],
        "round_trips": 2,
        "scored": 6,
    }
    row = reason_row("reason", [answer([1, 2, 4], text="One.\n\nSo 5.", **counts)], cloud, [PROBLEM])
    assert (row["steps"], row["accepted_steps"], row["score"]) == (4, 0.75, 7.0)
    assert (row["right"], row["has_number"], row["blank_lines"]) == (1.0, 1.0, 1.0)
    assert row["like_cloud"] == pytest.approx(2 / 3)
    assert (row["round_trips_per_token"], row["scored_per_token"]) == (pytest.approx(2 / 3), 2.0)
    alone = reason_row("cloud", cloud, cloud, [PROBLEM])
    assert (alone["accepted_steps"], alone["score"], alone["like_cloud"]) == (None, None, 1.0)


async def test_a_whole_run_on_a_tiny_pair(tmp_path: Path, tiny_pair: tuple[Path, Path]) -> None:
    (tmp_path / "gsm8k").mkdir()
    line = json.dumps({"question": PROBLEM.question, "answer": PROBLEM.worked})
    (tmp_path / "gsm8k" / "test.jsonl").write_text(f"{line}\n{line}\n", encoding="utf-8")
    edge, cloud = map(str, tiny_pair)
    bench = ReasonBench(
        data=tmp_path,
        thresholds=(0.0, 10.0),
        problems=1,
        judged=2,
        tokens=12,
        step_tokens=6,
        round_trip_ms=1.0,
        edge_model=edge,
        cloud_model=cloud,
        pin=False,
    )
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps
    rows = {row["variant"]: row for row in results["rows"]}
    assert rows["cloud (baseline)"]["like_cloud"] == rows["reason 10"]["like_cloud"] == 1.0
    assert (rows["reason 0"]["cloud_share"], rows["reason 10"]["cloud_share"]) == (0.0, 1.0)
    assert (rows["reason 0"]["accepted_steps"], rows["reason 10"]["accepted_steps"]) == (1.0, 0.0)
    assert not any(row["degraded"] for row in rows.values())
    assert results["judge"]["judged"] == 2
    assert [table.row_count for table in bench.tables(results)] == [4, 4, 1]
    assert all(key in row for row in rows.values() for key in (*COST, *QUALITY))
    assert set(JUDGE) == set(results["judge"])


def test_options_are_checked_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        ReasonBench(data=tmp_path, problems=0)
    with pytest.raises(InvalidRequest):
        ReasonBench(data=tmp_path, thresholds=(11.0,))
