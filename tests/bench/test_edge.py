"""The three loops write what they should, and are compared round by round."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.edge import EdgeBench, compared
from bench.loops import AgentLoop, BareLoop, HighLevelLoop
from bench.prompts import PROMPTS
from bench.tiers import chat_tokens
from tests.fakes.tiers import running_agent
from updraft.engine import open_engine
from updraft.engine.llama_native import ContextOptions
from updraft.errors import ConfigError

OPTIONS = ContextOptions(512, 1, 1, 64, 0)


def test_rates_are_compared_round_by_round() -> None:
    agent, bare = compared({"agent": [100.0, 50.0, 90.0], "bare": [100.0, 100.0, 60.0]})
    assert agent["tokens_per_second"] == {"median": 90.0, "low": 50.0, "high": 100.0}
    assert agent["agent_ratio"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert bare["agent_ratio"] == {"median": 1.0, "low": 0.5, "high": 1.5}
    assert bare["rounds"] == [100.0, 100.0, 60.0]


async def test_agent_and_bare_loop_write_the_same_tokens(tiny_model_path: Path) -> None:
    engine = open_engine(tiny_model_path, context=512, sequences=2, threads=1)
    prompt = chat_tokens(engine, PROMPTS[43])
    assert len(prompt) > OPTIONS.batch_tokens  # so that the bare loop cuts it
    bare = BareLoop(tiny_model_path, OPTIONS, engine.info.vocabulary)
    try:
        async with running_agent(engine, None) as agent:
            mine = await AgentLoop(agent).write(prompt, 24)
        first, again = await bare.write(prompt, 24), await bare.write(prompt, 24)
    finally:
        bare.close()
    assert mine.tokens == first.tokens == again.tokens
    for written in (mine, first):
        assert len(written.arrivals) == 24 and list(written.arrivals) == sorted(written.arrivals)


async def test_the_high_level_loop_writes_as_many_tokens_as_asked(tiny_model_path: Path) -> None:
    loop = HighLevelLoop(tiny_model_path, OPTIONS)
    try:
        first, again = await loop.write(range(10, 30), 12), await loop.write(range(10, 30), 12)
    finally:
        loop.close()
    assert len(first.tokens) == len(first.arrivals) == 12
    assert first.tokens == again.tokens


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
