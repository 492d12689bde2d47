"""The three loops take turns and are compared round by round."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.edge import EdgeBench, compared
from bench.loops import AgentLoop, BareLoop, HighLevelLoop
from tests import house
from updraft.errors import ConfigError, ModelNotFound


def test_rates_are_compared_round_by_round() -> None:
    agent, bare = compared({"agent": [100.0, 50.0, 90.0], "bare": [100.0, 100.0, 60.0]})
    assert agent["tokens_per_second"] == {"median": 90.0, "low": 50.0, "high": 100.0}
    assert agent["agent_ratio"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert bare["agent_ratio"] == {"median": 1.0, "low": 0.5, "high": 1.5}
    assert bare["rounds"] == [100.0, 100.0, 60.0]


async def test_a_run_counts_rounds_and_texts(tiny_model_path: Path) -> None:
    bench = EdgeBench(prompts=2, tokens=6, rounds=2, model=str(tiny_model_path), threads=1, sequences=2)
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps == 3
    assert results["passed"] and results["texts"] == 4
    assert [row["loop"] for row in results["loops"]] == [AgentLoop.name, BareLoop.name, HighLevelLoop.name]
    assert results["loops"][0]["same_as_agent"] == 4
    assert all(rate > 0.0 for row in results["loops"] for rate in row["rounds"])
    assert results["goal_met"] is all(row["agent_ratio"]["median"] >= 0.95 for row in results["loops"])
    assert bench.tables(results)[0].row_count == 3


async def test_answers_that_do_not_fit_are_refused(tiny_model_path: Path) -> None:
    with pytest.raises(ConfigError, match="context of 256"):
        await EdgeBench(model=str(tiny_model_path), context=256, tokens=200, threads=1).measure(print)


async def test_an_error_of_a_loop_reaches_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="missing.gguf"):
        await EdgeBench(model=str(tmp_path / "missing.gguf"), threads=1).measure(print)


def test_the_bench_itself_loads_no_model(tiny_model_path: Path) -> None:
    options = {"prompts": 1, "tokens": 3, "rounds": 1, "model": str(tiny_model_path), "threads": 1, "sequences": 1}
    code = f"""
import asyncio
from bench.edge import EdgeBench
assert asyncio.run(EdgeBench(**{options!r}).measure(lambda text: None))["passed"]
"""
    assert house.loaded_by(code, house.HEAVY) == set()
