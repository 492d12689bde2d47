"""`updraft compose`: check, run and search from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.shared.cli.conftest import Updraft
from updraft.composition import load_pipeline
from updraft.strategies import parse_strategy

PIPELINE = """
[[component]]
kind = "generate"
id = "g"
samples = 3

[[component]]
kind = "rank"
id = "r"
inputs = ["g"]
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> str:
    path = tmp_path / "p.toml"
    path.write_text(PIPELINE)
    return str(path)


def test_check_shows_the_order_and_what_is_wrong(updraft: Updraft, pipeline: str, tmp_path: Path) -> None:
    shown = updraft("compose", "check", pipeline)
    assert shown.exit_code == 0 and "r: rank <- g   (the answer)" in shown.stdout
    assert json.loads(updraft("compose", "check", pipeline, "--json").stdout)["order"] == ["g", "r"]
    (tmp_path / "bad.toml").write_text(PIPELINE.replace('["g"]', '["x"]'))
    wrong = updraft("compose", "check", str(tmp_path / "bad.toml"))
    assert wrong.exit_code == 2 and "no component 'x'" in wrong.stderr


def test_run_answers_and_says_what_it_cost(updraft: Updraft, pipeline: str, tiny_model_path: Path) -> None:
    options = ["--model", str(tiny_model_path), "--max-tokens", "8"]
    shown = updraft("compose", "run", pipeline, "Hello", *options)
    assert shown.exit_code == 0, shown.stderr
    assert "3 samples" in shown.stderr and "unverified" in shown.stderr
    facts = json.loads(updraft("compose", "run", pipeline, "Hello", *options, "--json").stdout)
    assert facts["spent"]["samples"] == 3 and facts["text"].strip() == shown.stdout.strip()


def test_search_writes_what_check_reads(updraft: Updraft, tiny_model_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    tasks, out = tmp_path / "tasks.jsonl", tmp_path / "found.toml"
    tasks.write_text('{"question": "1+1=", "answer": "2"}\n{"question": "2+1=", "answer": "3"}\n')
    result = updraft(
        "compose", "search", str(tasks), "--out", str(out), "--model", str(tiny_model_path),
        "--trials", "4", "--samples", "2", "--no-texts", "--max-tokens", "4", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["questions"] == 2 and len(facts["trials"]) >= 2
    assert out.read_text() == facts["best"] and load_pipeline(out).component[0].kind == "generate"


def test_fit_writes_a_strategy_that_requests_can_name(updraft: Updraft, tiny_model_path: Path, tmp_path: Path) -> None:
    tasks, out = tmp_path / "tasks.jsonl", tmp_path / "choice.json"
    tasks.write_text('{"question": "1+1=", "answer": "2"}\n{"question": "2+1=", "answer": "3"}\n')
    options = ["--model", str(tiny_model_path), "--max-tokens", "3", "--classes", "2"]
    result = updraft("compose", "fit", str(tasks), "--out", str(out), *options)
    assert result.exit_code == 0, result.stderr
    assert "difficulty up to 1.00: " in result.stdout
    data = json.loads(out.read_text())
    assert parse_strategy(data.pop("name"), data).name == "auto"


def test_what_cannot_be_is_said_before_a_model_is_opened(updraft: Updraft, pipeline: str, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"question": "1+1=", "answer": "2"}\n')
    for verb in ("search", "fit"):
        for out in (tmp_path, tmp_path / "nowhere" / "x.toml"):
            wrong = updraft("compose", verb, str(tasks), "--out", str(out), "--model", "none")
            assert wrong.exit_code == 2 and "cannot be written" in wrong.stderr
    wrong = updraft("compose", "run", pipeline, "Hello", "--step", "", "--model", "none")
    assert wrong.exit_code == 2 and "--step is empty" in wrong.stderr


def test_a_verifier_judges_what_components_ask_it(updraft: Updraft, tiny_model_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(PIPELINE + 'by = "verifier"\n')
    options = ["--model", str(tiny_model_path), "--max-tokens", "8", "--json"]
    without = updraft("compose", "run", str(path), "Hello", *options)
    assert without.exit_code == 2 and "'r' needs a verifier" in without.stdout
    facts = json.loads(updraft("compose", "run", str(path), "Hello", *options, "--verifier", "logprob").stdout)
    assert facts["alternatives"][0]["score"] == pytest.approx(facts["confidence"]) and facts["verified"] is not None
