"""Curves of passes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bench.pass_curve import PassCurve, measure_curve, read_curves
from bench.passes import PassesBench
from tests.fakes.engine import HashEngine
from updraft.errors import ConfigError

CURVE = PassCurve("made up", ((1, 1, 0.010), (1, 5, 0.014), (4, 4, 0.020), (4, 20, 0.052)), row_s=0.0005)


def test_between_what_was_measured_it_is_a_line() -> None:
    assert CURVE.seconds(1, 3, 3) == pytest.approx(0.012)
    assert CURVE.seconds(1, 9, 9) == pytest.approx(0.018)
    assert CURVE.seconds(4, 12, 12) == pytest.approx(0.036)
    assert CURVE.seconds(2, 5, 5) == pytest.approx(0.014 + (0.022 - 0.014) / 3)
    assert CURVE.seconds(9, 20, 20) == pytest.approx(0.052)


def test_positions_without_logits_cost_less() -> None:
    assert CURVE.seconds(1, 5, 1) == pytest.approx(0.014 - 4 * 0.0005)


def test_a_straight_line_is_what_it_says() -> None:
    line = PassCurve.line("line", 0.02, 0.003)
    assert line.seconds(7, 11, 11) == pytest.approx(0.02 + 0.033)
    assert line.pass_s == pytest.approx(0.02) and line.position_s == pytest.approx(0.003)


@pytest.mark.parametrize("points", [(), ((1, 1, 0.1),), ((1, 1, 0.1), (1, 2, -0.1)), ((1, 1, 0.1), (2, 2, 0.2))])
def test_what_is_no_curve_is_refused(points: tuple[tuple[int, int, float], ...]) -> None:
    with pytest.raises(ConfigError):
        PassCurve("bad", points)


def test_an_engine_is_measured_and_left_as_it_was() -> None:
    engine = HashEngine(sequences=4)
    curve = measure_curve("hash", engine, (1, 4), (1, 2, 40), largest=50, rounds=2)
    assert sorted((sequences, positions) for sequences, positions, _ in curve.points) == [
        (1, 1),
        (1, 2),
        (1, 40),
        (4, 4),
        (4, 8),
    ]
    assert len({engine.open() for _ in range(4)}) == 4


async def test_the_bench_writes_curves_that_are_read_again(tiny_model_path: Path, tmp_path: Path) -> None:
    bench = PassesBench(
        models=(str(tiny_model_path),), widths=("F32",), sequences=(1, 2), each=(1, 3), rounds=1, threads=1
    )
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps == 2
    (tmp_path / "passes.json").write_text(json.dumps({"results": results}))
    curves = read_curves(tmp_path / "passes.json")
    assert [asdict(curve) for curve in curves] == results["curves"]
    assert curves[1].name.endswith("F32")
    assert len(bench.tables(results)) == 1 and bench.plot(results, tmp_path / "passes.png")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no curves"):
        read_curves(tmp_path / "x.json")
    with pytest.raises(ConfigError, match="width"):
        PassesBench(widths=("F64",))
