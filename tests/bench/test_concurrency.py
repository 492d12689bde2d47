"""Clients and agents at once, each with its own text."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.concurrency import ConcurrencyBench, compared
from tests.bench.answers import completion
from updraft.errors import ConfigError


def test_answers_are_compared_with_their_own_question_alone() -> None:
    alone = [completion([1]), completion([2])]
    found = compared(alone, [[completion([1]), completion([2])], [completion([2]), completion([2], degraded=True)]])
    assert (found["identical"], found["total"], found["same"], found["degraded"]) == (3, 4, "3/4", 1)


async def test_clients_and_agents_get_what_they_get_alone(tiny_pair: tuple[Path, Path]) -> None:
    edge, cloud = map(str, tiny_pair)
    bench = ConcurrencyBench(clients=4, agents=3, tokens=8, rounds=2, edge_model=edge, cloud_model=cloud, pin=False)
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps == 1 + 3 * 7
    assert results["passed"]
    assert [(row["who"], row["same"]) for row in results["rows"]] == [
        ("4 clients, 1 agent", "8/8"),
        ("3 agents, 1 cloud", "6/6"),
    ]
    assert all(row["alone_tokens_per_second"] > 0.0 < row["together_tokens_per_second"] for row in results["rows"])
    assert bench.tables(results)[0].row_count == 2


@pytest.mark.parametrize("options", [{"clients": 0, "agents": 0}, {"clients": -1}, {"agents": 51}, {"rounds": 0}])
def test_numbers_that_cannot_be_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        ConcurrencyBench(**options)  # type: ignore[arg-type]
