"""Experts offloaded, measured: tiny sizes to the end, and the same bits everywhere. Nothing here depends on speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.experts import ExpertsBench
from bench.experts_gpu import main
from bench.experts_model import traffic
from bench.experts_plot import plot_wall_clock
from bench.experts_sessions import GROUPINGS
from tests.fakes.hf_model import write_hf_model
from updraft.errors import ConfigError

pytest.importorskip("torch")

TINY: dict[str, Any] = {
    "shares": (0.4,),
    "policies": ("draft",),
    "rounds": 1,
    "passes": 3,
    "layers": 2,
    "experts": 4,
    "width": 8,
    "hidden": 8,
    "host_slowdown": 1.0,
}


async def test_ways_take_turns_and_give_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    bench = ExpertsBench(**TINY)
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps
    rows = results["rows"]
    assert [row["way"] for row in rows] == ["all resident", "on the host", "lru", "draft"]
    assert all(row["same"] for row in rows)
    assert rows[0]["vs_resident"] == rows[2]["vs_lru"] == 1.0
    json.dumps(results, allow_nan=False)
    assert bench.tables(results)[0].row_count == 4
    plot_wall_clock(rows, tmp_path / "plot.png", subtitle="tiny")
    assert (tmp_path / "plot.png").stat().st_size > 5_000


async def test_a_real_model_answers_the_same(tmp_path: Path) -> None:
    write_hf_model(tmp_path / "model", "mixtral")
    bench = ExpertsBench(str(tmp_path / "model"), **TINY)
    results = await bench.measure(lambda text: None)
    assert all(row["same"] for row in results["rows"])
    assert results["rows"][0]["tokens"] > 0


async def test_sessions_of_a_model_share_passes_with_the_same_bits(tmp_path: Path) -> None:
    write_hf_model(tmp_path / "model", "mixtral")
    bench = ExpertsBench(str(tmp_path / "model"), **TINY | {"passes": 24}, sessions=6, pass_tokens=12)
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps
    rows = results["groupings"]
    assert [row["way"] for row in rows] == list(GROUPINGS)
    assert all(row["same"] for row in rows)
    assert rows[1]["vs_turn"] == 1.0 and rows[0]["most_waited"] == 0 < rows[1]["most_waited"]
    json.dumps(results, allow_nan=False)
    assert [table.row_count for table in bench.tables(results)] == [4, 3]


def test_the_script_for_a_gpu_runs_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu.json"
    assert main(["--tiny", "--out", str(out)]) == 0
    results = json.loads(out.read_text())
    ways = {row["way"] for row in results["rows"]}
    assert ways >= {"all resident", "lru", "draft", "on the host"}
    assert "x resident" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [{"shares": ()}, {"shares": (1.5,)}, {"copy_ratio": 0.0}, {"passes": 0}, {"sessions": 4}, {"prompts": ("one",)}],
)
def test_options_that_cannot_be_measured_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ExpertsBench(**options)


def test_sessions_talk_of_different_things() -> None:
    passes = traffic(8, together=2, draft=3, vocabulary=512)
    assert [len(tokens) for tokens in passes] == [6] * 8
    assert passes[:2] != passes[2:4]
    assert passes == traffic(8, together=2, draft=3, vocabulary=512)
