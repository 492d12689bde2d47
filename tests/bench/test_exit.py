"""Early exits measured: figures, the judge, rows and plot. Nothing here depends on how fast the machine is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.exit import COSTS, QUALITY, ExitBench, exact
from bench.exit_figures import PUBLISHED, Judge, exit_row
from bench.exit_plot import plot_exit
from tests.bench.answers import answer
from tests.cloud.sessions.test_session import PROMPT, TRUTH, opening
from tests.fakes.engine import HashEngine
from updraft.errors import ConfigError, InvalidRequest

SAMPLING = opening().sampling


def test_the_judge_agrees_with_what_the_model_would_have_written() -> None:
    engine = HashEngine()
    for temperature, truth in TRUTH.items():
        params = opening(temperature=temperature).sampling
        agreed, nats = Judge(engine).opinion(PROMPT, truth, params)
        assert agreed == len(truth)
        wrong = [truth[0], (truth[1] + 1) % 60, *truth[2:]]
        fewer, more = Judge(engine).opinion(PROMPT, wrong, params)
        assert fewer < agreed
        assert more != nats
    assert engine.open_sequences == 0


@pytest.mark.parametrize("length", [1, 62, 63, 64, 130])
def test_the_judge_reads_every_token_of_the_answer_once(length: int) -> None:
    prompt = list(range(40))
    engine = HashEngine()
    agreed, nats = Judge(engine).opinion(prompt, [7] * length, SAMPLING)
    assert sum(run.rows for batch in engine.batches for run in batch) == length
    assert 0 <= agreed <= length
    assert nats > 0


def test_a_row_adds_its_answers_up() -> None:
    whole = [answer([1, 2], cloud_layers=40), answer([3, 4], cloud_layers=40)]
    counts: dict[str, Any] = {"round_trips": 1, "hidden_bytes_up": 100, "bytes_up": 120}
    mixed = [
        answer([1, 2], cloud_layers=10, exit_tokens={8: 1}, **counts),
        answer([3, 5], cloud_layers=10, exit_tokens={16: 1}, **counts),
    ]
    row = exit_row(mixed, whole, [(2, 1.0), (1, 3.0)])
    assert (row["early_share"], row["exits"]) == (0.5, {"8": 0.25, "16": 0.25})
    assert (row["requests_per_token"], row["cloud_layers_per_token"], row["compute_saved"]) == (0.5, 5.0, 0.75)
    assert (row["hidden_bytes_up_per_token"], row["bytes_up_per_token"]) == (50.0, 60.0)
    assert (row["agreement"], row["nats_per_token"], row["same"]) == (0.75, 1.0, "1/2")


def test_without_work_in_the_cloud_nothing_can_be_saved() -> None:
    row = exit_row([answer([1])], [answer([1])], [(1, 0.0)])
    assert row["compute_saved"] is None


def test_only_answers_that_are_never_confident_must_be_the_clouds() -> None:
    row = {"mode": "exit", "threshold": 1.0, "identical": 2, "answers": 2, "degraded": 0}
    assert exact([row, {**row, "threshold": 0.5, "identical": 0}, {**row, "mode": "edge", "identical": 0}])
    assert not exact([row, {**row, "identical": 1}])
    assert not exact([row, {**row, "threshold": 0.5, "degraded": 1}])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"thresholds": ()}, ConfigError),
        ({"thresholds": (1.5,)}, ConfigError),
        ({"thresholds": (float("nan"),)}, ConfigError),
        ({"carries": ("int4",)}, ConfigError),
        ({"prompts": 51}, ConfigError),
        ({"criterion": "hope"}, InvalidRequest),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        ExitBench(**options)


async def test_a_model_without_exits_is_refused(tiny_model_path: Path) -> None:
    with pytest.raises(ConfigError, match="no exits"):
        await ExitBench(model=str(tiny_model_path), pin=False, context=128).measure(lambda text: None)


async def test_every_threshold_is_measured_both_ways(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    pytest.importorskip("matplotlib")
    from tests.fakes.staged_model import write_staged_model

    write_staged_model(tmp_path / "staged", exits=(1, 3), layers=4)
    bench = ExitBench(
        model=str(tmp_path / "staged"),
        thresholds=(0.1, 1.0),
        carries=("float16",),
        prompts=2,
        tokens=6,
        round_trip_ms=2.0,
        context=256,
        pin=False,
    )
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps
    rows = results["rows"]
    names = ["cloud (baseline)", "cloud, float16", *["edge alone", "token ids"] * 2, *["hidden float16"] * 2]
    assert [row["variant"] for row in rows] == names
    assert results["passed"]
    assert (results["layers"], results["exits"]) == (4, [1, 3])
    never = {row["variant"]: row for row in rows if row["threshold"] == 1.0}
    assert never["hidden float16"]["compute_saved"] == 0.25
    assert never["token ids"]["compute_saved"] == 0.0
    assert never["token ids"]["agreement"] == 1.0
    assert never["edge alone"]["early_share"] == 1.0
    assert never["hidden float16"]["hidden_bytes_up_per_token"] > 128
    json.dumps(results, allow_nan=False)
    for table, columns in zip(bench.tables(results), (QUALITY, COSTS), strict=True):
        assert table.row_count == len(rows) + 1
        assert len(table.columns) == len(columns)
    assert bench.plot(results, tmp_path / "exit.png")
    assert (tmp_path / "exit.png").stat().st_size > 10_000


def test_the_plot_takes_a_single_threshold(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    row = {"mode": "cloud", "threshold": None, "variant": "cloud (baseline)", "cloud_layers_per_token": 30.0}
    row |= {"bytes_up_per_token": 10.0, "early_share": 0.0, "agreement": 1.0}
    results = {"rows": [row, {**row, "variant": "hidden int8", "threshold": 0.8}], "published": PUBLISHED}
    plot_exit(results, tmp_path / "exit.png", subtitle="one")
    assert (tmp_path / "exit.png").exists()
