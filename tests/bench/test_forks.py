"""Branches against separate requests: the answers are the same, the work is less."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cells import CellCounter, distinct_cells
from bench.forks import ForksBench, measure_forks
from tests.fakes.engine import HashEngine
from updraft.engine.base import Run
from updraft.errors import ConfigError, Overloaded
from updraft.sampling import SamplingParams
from updraft.strategies import Problem


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=6))
def test_distinct_cells_are_the_prefixes_that_differ(caches: list[list[int]]) -> None:
    prefixes = {tuple(cache[:end]) for cache in caches for end in range(1, len(cache) + 1)}
    assert distinct_cells(caches) == len(prefixes)


def test_cells_are_counted_at_their_peak() -> None:
    counter = CellCounter(HashEngine(), 2)
    first = counter.open()
    counter.forward([Run(first, 0, [1, 2, 3])])
    second = counter.fork(first)
    counter.truncate(second, 2)
    counter.forward([Run(first, 3, [4]), Run(second, 2, [9])])
    assert (counter.cells, counter.distinct) == (7, 5)
    with pytest.raises(Overloaded):
        counter.open()
    counter.close(first)
    counter.forward([Run(second, 3, [1])])
    assert (counter.cells, counter.distinct) == (7, 5) and counter.length(second) == 4


@pytest.mark.parametrize("strategy", ["self-consistency", "particle-filtering", "beam-search", "a-star"])
async def test_forks_compute_a_prompt_once(strategy: str) -> None:
    prompt = [1 + index % 50 for index in range(200)]
    problem = Problem(prompt, "", SamplingParams(temperature=1.0, seed=3), max_tokens=30, step="A", extract=str)
    separate, forks = [
        await measure_forks(HashEngine(sequences=8, recorded=False), problem, strategy, 4, share=share)
        for share in (False, True)
    ]
    assert forks.outcome.alternatives == separate.outcome.alternatives
    assert forks.outcome.spent.tokens == separate.outcome.spent.tokens
    assert forks.outcome.spent.prefilled < 260 < 398 <= separate.outcome.spent.prefilled
    assert forks.distinct < 200 + 4 * 31 < 400 < forks.cells


async def test_the_bench_compares_both_ways(tiny_model_path: Path, tmp_path: Path) -> None:
    bench = ForksBench(models=(str(tiny_model_path),), samples=(4,), prompts=1, tokens=12, context=256, threads=1)
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps == 4 and results["passed"]
    for row in results["rows"]:
        assert row["forks_prefilled"] * 2 <= row["separate_prefilled"]
        assert 0 < row["shared_mib"] < row["separate_mib"]
    assert len(bench.tables(results)) == 1 and not bench.plot(results, tmp_path / "forks.png")


@pytest.mark.parametrize("options", [{"strategies": ("guessing",)}, {"samples": ()}, {"prompts": 1000}])
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        ForksBench(**options)  # type: ignore[arg-type]
