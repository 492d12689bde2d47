"""`updraft experts`: from a recording to a simulation, a predictor, a plan and a placement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hf_model import write_hf_model
from tests.fakes.routing import Routing, make_trace
from tests.shared.cli.conftest import Updraft
from updraft_cloud.experts.trace import read_trace, write_trace

pytest.importorskip("torch")
pytest.importorskip("scipy")


@pytest.fixture
def routes(tmp_path: Path) -> str:
    path = tmp_path / "routes.safetensors"
    write_trace(path, make_trace(300, Routing(layers=3, experts=8, active=2, vocabulary=30)))
    return str(path)


def answered(updraft: Updraft, *arguments: str) -> Any:
    result = updraft("experts", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_trace_is_recorded(updraft: Updraft, tmp_path: Path) -> None:
    write_hf_model(tmp_path / "model", "olmoe")
    out = tmp_path / "routes.safetensors"
    facts = answered(
        updraft, "trace", str(tmp_path / "model"), "--out", str(out), "--most", "2", "--tokens", "5", "--context", "64",
        "--threads", "1",
    )  # fmt: skip
    trace = read_trace(out)
    assert (facts["rows"], facts["passes"]) == (len(trace), trace.pass_count)
    assert trace.ahead is not None and facts["experts"] == 8


def test_policies_stand_beside_the_baseline_and_the_bound(updraft: Updraft, routes: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "plot.png"
    options = ["--budget", "40%", "--budget", "1MiB", "--policy", "draft", "--plot", str(plot)]
    rows = answered(updraft, "simulate", routes, *options)["rows"]
    assert [row["policy"] for row in rows] == ["lru", "draft", "belady"] * 2
    assert plot.read_bytes().startswith(b"\x89PNG")
    text = updraft("experts", "simulate", routes, "--budget", "40%", "--policy", "lfu", "--group", "8")
    assert text.exit_code == 0 and "belady" in text.stdout and "x lru's time" in text.stdout
    assert "passes by routes known" in text.stdout


def test_a_predictor_is_trained_and_used(updraft: Updraft, routes: str, tmp_path: Path) -> None:
    out = tmp_path / "predictor.safetensors"
    facts = answered(updraft, "train", routes, "--out", str(out), "--epochs", "2", "--threads", "1")
    assert 0.0 <= facts["precision"] <= 1.0 and facts["held_out_rows"] > 0
    options = ["--policy", "trained", "--predictor", str(out), "--budget", "50%"]
    rows = answered(updraft, "simulate", routes, *options)["rows"]
    assert [row["policy"] for row in rows] == ["lru", "trained", "belady"]
    refused = updraft("experts", "simulate", routes, "--policy", "trained")
    assert refused.exit_code == 2 and "updraft experts train" in refused.stderr


def test_a_plan_names_flags_that_the_service_takes(updraft: Updraft, routes: str) -> None:
    result = updraft("experts", "plan", routes, "--bytes", "60%", "--policy", "draft")
    assert result.exit_code == 0, result.stderr
    assert "--expert-budget" in result.stdout and "--expert-policy" in result.stdout
    help_text = updraft("serve", "cloud", "--help").stdout
    assert "--expert-budget" in help_text and "--expert-policy" in help_text
    advice = answered(updraft, "plan", routes, "--stall", "99.9%", "--budget", "30%", "--budget", "60%")["advice"]
    assert advice["stall_share"] <= 0.999


def test_a_placement_is_written_and_compared(updraft: Updraft, routes: str, tmp_path: Path) -> None:
    out = tmp_path / "placement.json"
    found = answered(updraft, "place", routes, "--devices", "2", "--out", str(out))
    assert set(found["crossing_share"]) == {"placed", "round_robin", "random"}
    assert json.loads(out.read_text())["devices"] == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["simulate", "missing"], "no routing trace"),
        (["plan", "ROUTES"], "one goal"),
        (["plan", "ROUTES", "--stall", "much"], "is no share"),
        (["plan", "ROUTES", "--bytes", "much"], "is no amount"),
        (["simulate", "ROUTES", "--policy", "hope"], "no expert policy"),
        (["simulate", "ROUTES", "--budget", "0%"], "is no share"),
        (["place", "ROUTES", "--devices", "3"], "cannot be shared equally"),
    ],
)
def test_what_cannot_be_done_is_said(updraft: Updraft, routes: str, arguments: list[str], reason: str) -> None:
    result = updraft("experts", *(routes if part == "ROUTES" else part for part in arguments))
    assert result.exit_code in (1, 2)
    assert reason in result.stderr
