"""Shared passes against the bare loop, and what the cloud's sessions cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.batch_loops import Shape
from bench.batch_sessions import session_rows
from bench.batching import BatchingBench, shapes
from updraft.engine.loop import PassRecord, Share
from updraft.errors import ConfigError


def test_shapes_are_writes_drafts_and_drafts_of_all_lengths() -> None:
    write, three, seven, mixed = shapes(4, (3, 7), 64)
    assert (write.runs, write.kept, write.positions) == ((1,) * 4, (1,) * 4, 4)
    assert (three.runs, three.kept) == ((4,) * 4, (2,) * 4)
    assert (seven.positions, mixed.name, mixed.runs) == (32, "drafts of 3+7", (4, 8, 4, 8))
    assert [shape.name for shape in shapes(1, (3, 7), 64)] == ["writes", "drafts of 3", "drafts of 7"]


def test_sequences_of_a_shape_hold_different_tokens() -> None:
    shape = Shape("writes", (8, 8), (4, 4), 20)
    assert shape.tokens(0) != shape.tokens(1)
    assert len(shape.prompt(0)) == 20


async def test_both_loops_compute_the_same_bits_and_sessions_are_measured(tiny_model_path: Path) -> None:
    bench = BatchingBench(
        sessions=(1, 3), drafts=(2, 4), passes=3, rounds=2, depth=70, tokens=20, model=str(tiny_model_path),
        context=128, pass_tokens=64, threads=1,
    )  # fmt: skip
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps
    assert results["passed"]
    assert [(row["sessions"], row["positions"]) for row in results["loops"]] == [
        (1, 1), (1, 3), (1, 5), (3, 3), (3, 9), (3, 15), (3, 11),
    ]  # fmt: skip
    assert all(rate > 0.0 for row in results["loops"] for rate in row["bare_rounds"] + row["loop_rounds"])
    assert {row["sessions"] for row in results["sessions"]} == {1, 3}
    assert len(results["sessions"]) == 2 * 2 * 3
    assert [row["rows"] // row["sessions"] for row in results["sessions"]] == [1, 3, 5] * 4
    assert all(row["passes"] for row in results["sessions"])
    assert [table.row_count for table in bench.tables(results)] == [7, 12]


def test_passes_in_which_a_session_was_missing_do_not_count() -> None:
    none = Share()
    whole = PassRecord(0.08, none, Share(4, 4), none, none, 0, 0.015, 0.005)
    part = PassRecord(9.0, none, Share(1, 1), none, none, 0, 9.0, 9.0)
    row = session_rows("write", 4, 1, [whole, part, whole])
    assert (row["passes"], row["rows"], row["pass_ms"]) == (2, 4, 80.0)
    assert (row["overhead_share"], row["session_share"]) == (pytest.approx(0.05), pytest.approx(0.15))
    assert row["session_us_per_row"] == pytest.approx(3750.0)


@pytest.mark.parametrize("options", [{"passes": 500}, {"sessions": (40,)}, {"sessions": (51,)}, {"tokens": 10}])
def test_what_does_not_fit_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        BatchingBench(**options)  # type: ignore[arg-type]
