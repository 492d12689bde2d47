"""The promise holds on held-out prompts where the measured mean alone does not; damaged results are refused."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from bench.calibration import CalibrationBench, read_recorded
from tests.shared.calibration.tables import measured
from updraft.calibration.grid import make_grid
from updraft.calibration.measure import setting_name
from updraft.calibration.results import EDGE_ONLY, Results
from updraft.errors import ConfigError, InvalidRequest
from updraft.modes import Mode

POINTS = make_grid(Mode.REASON)
RISKS = np.linspace(0.02, 0.5, len(POINTS))


def record(path: Path, prompts: int, *, binary: bool = True) -> Path:
    random = np.random.default_rng(1)
    with contextlib.closing(Results(path, {"edge": "a"})) as results:
        for number in range(prompts):
            hard, depth = random.uniform(), 1.0 if binary else random.uniform()
            results.add(measured(f"p{number}", EDGE_ONLY, disagreement=0.9))
            for place in random.permutation(len(POINTS)):  # files are in no order
                lost = depth * float(hard < RISKS[place])
                name = setting_name(Mode.REASON, POINTS[place])
                results.add(measured(f"p{number}", name, disagreement=lost, share=0.6 - 0.05 * place))
    return path


@pytest.mark.parametrize("binary", [True, False])
async def test_the_promise_is_kept_and_the_baseline_breaks_it(tmp_path: Path, binary: bool) -> None:
    bench = CalibrationBench((record(tmp_path / "r.jsonl", 200, binary=binary),), levels=(0.1, 0.25))
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert results["passed"] and len(steps) == bench.steps
    rows = {(row["method"], row["level"]): row for row in results["rows"]}
    for level in bench.levels:
        assert rows["next prompts", level]["held"] >= 95
        assert rows["risk control", level]["risk"] <= level * 1.05
        assert rows["measured mean", level]["held"] < 90
        assert rows["next prompts", level]["share"] >= rows["measured mean", level]["share"]
    assert bench.tables(results)[0].row_count == 8
    assert bench.plot(results, tmp_path / "plot.png")
    json.dumps(results, allow_nan=False)


def test_settings_are_put_in_order(tmp_path: Path) -> None:
    (recorded,) = read_recorded(record(tmp_path / "r.jsonl", 60), "disagreement")
    assert recorded.losses.shape == (60, len(POINTS))
    assert (np.diff(recorded.losses, axis=1) >= 0).all()
    assert (np.diff(recorded.shares, axis=1) < 0).all()


def test_what_cannot_be_resampled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no results"):
        CalibrationBench()
    with pytest.raises(ConfigError, match="9 prompts"):
        read_recorded(record(tmp_path / "few.jsonl", 9), "disagreement")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_recorded(tmp_path / "none.jsonl", "disagreement")
    for wrong in ({"metric": "share"}, {"levels": (0.0,)}, {"delta": 1.0}, {"fitted": 0.99}):
        with pytest.raises(ConfigError):
            CalibrationBench((tmp_path / "few.jsonl",), **wrong)
