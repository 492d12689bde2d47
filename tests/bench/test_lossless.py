"""The lossless bench counts what is the same and what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.lossless import BASELINE, LosslessBench, all_same, judged
from updraft.errors import ConfigError, UnknownName


def row(case: str, passes: float, up: float, identical: int = 2, **more: Any) -> dict[str, Any]:
    return {
        "case": case,
        "cloud_passes_per_token": passes,
        "bytes_up_per_token": up,
        "identical": identical,
        "total": 2,
        **more,
    }


def test_goals_are_judged_by_the_worst_case_without_cuts() -> None:
    rows = [row(BASELINE, 1.0, 9.0), row("plain", 0.3, 20.0), row("relay", 0.36, 19.0), row("cut", 0.9, 99.0, cuts=4)]
    found = judged(rows)
    assert found["cloud_passes_per_token"] == {"limit": 0.35, "worst": 0.36, "met": False}
    assert found["bytes_up_per_token"] == {"limit": 24.0, "worst": 20.0, "met": True}


def test_goals_without_a_case_are_not_judged() -> None:
    assert judged([row(BASELINE, 1.0, 9.0), row("cut", 0.9, 99.0, cuts=4)]) == {}


def test_one_different_answer_is_enough() -> None:
    assert all_same([row("plain", 0.3, 20.0), row("relay", 0.3, 20.0)])
    assert not all_same([row("plain", 0.3, 20.0), row("relay", 0.3, 20.0, identical=1)])


def test_what_cannot_be_run_is_refused() -> None:
    with pytest.raises(UnknownName, match="plain, relay, together, cut"):
        LosslessBench(cases=("plain", "fast"))
    with pytest.raises(ConfigError):
        LosslessBench(prompts=0)


async def test_every_case_writes_the_clouds_text(tiny_pair: tuple[Path, Path]) -> None:
    edge, cloud = map(str, tiny_pair)
    bench = LosslessBench(
        prompts=3, tokens=12, round_trip_ms=4.0, together=3, cuts=2, edge_model=edge, cloud_model=cloud, pin=False
    )
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps == 1 + 2 * 3 * 5
    rows = results["rows"]
    assert results["passed"] and all(one["same"] == "3/3" for one in rows)
    assert [one["sampling"] for one in rows] == ["greedy"] * 5 + ["T=0.8"] * 5
    assert {one["cloud_passes_per_token"] for one in rows if one["case"] == BASELINE} == {1.0}
    assert [one["tcp_up_per_token"] >= one["bytes_up_per_token"] for one in rows if "tcp_up_per_token" in one] == [
        True
    ] * 2
    assert len([one for one in rows if "cuts" in one]) == 2
    assert bench.tables(results)[0].row_count == len(rows)


def test_temperature_zero_leaves_one_way_of_sampling() -> None:
    assert LosslessBench(temperature=0.0, prompts=2, cases=("plain",)).steps == 1 + 2 * 2
