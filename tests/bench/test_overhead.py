"""`updraft bench overhead`: every decision is timed over real tokens. No time is asserted."""

from __future__ import annotations

from pathlib import Path

from bench.overhead import OverheadBench, pieces
from updraft.sampling import Distribution, Sampled


def test_names_are_each_given_once() -> None:
    names = [name for name, _ in pieces(64)]
    assert len(set(names)) == len(names) and {"stop: fixed", "stop: cost-aware", "stop: cost-aware, head"} <= set(names)


async def test_a_run_on_a_tiny_model(tiny_model_path: Path) -> None:
    bench = OverheadBench(edge_model=str(tiny_model_path), tokens=14, rounds=2, pin=False)
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps
    assert [row["name"] for row in results["rows"]] == [name for name, _ in pieces(64)]
    assert all(0.0 <= row["us_low"] <= row["us"] <= row["us_high"] for row in results["rows"])
    assert results["token_ms"] > 0.0 and isinstance(results["passed"], bool)
    assert bench.tables(results)


def test_decisions_take_any_number_of_tokens() -> None:
    import numpy as np

    one = Sampled(1, -1.0, Distribution(1.0, 1.0, 0.5), hidden=np.ones(64, np.float32))
    for name, decide in pieces(64):
        if name.startswith("stop:"):
            decide([one] * 7)
            decide([])
