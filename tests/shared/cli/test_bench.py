"""`updraft bench`: finding the benches, options, files and exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from updraft.cli import app
from updraft.cli.bench import bench_module

runner = CliRunner()

TINY = ["--prompts", "1", "--tokens", "6", "--context", "512"]


@pytest.fixture
def models(tiny_pair: tuple[Path, Path]) -> list[str]:
    edge, cloud = map(str, tiny_pair)
    return ["--edge-model", edge, "--cloud-model", cloud, "--no-pin"]


def invoke(*arguments: str) -> Any:
    return runner.invoke(app, ["bench", *arguments])


def test_the_benches_are_found_in_the_source_tree() -> None:
    assert Path(bench_module("relay").__file__).parts[-2:] == ("bench", "relay.py")
    assert bench_module("relay").Relay is sys.modules["updraft._bench.relay"].Relay


@pytest.mark.parametrize(
    "verb",
    [
        "edge",
        "modes",
        "pairs",
        "ladder",
        "lossless",
        "concurrency",
        "exit",
        "faults",
        "forks",
        "fuzz",
        "soak",
        "onnx",
        "agreement",
        "stopping",
        "overhead",
    ],
)
def test_every_bench_has_help_with_an_example(verb: str) -> None:
    done = invoke(verb, "--help")
    assert done.exit_code == 0 and f"updraft bench {verb}" in done.stdout


def test_a_bench_prints_tables_and_writes_its_files(tmp_path: Path, models: list[str]) -> None:
    done = invoke("modes", *TINY, *models, "--round-trip", "2", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "baseline" in done.stdout and "draft" in done.stdout
    document = json.loads((tmp_path / "modes.json").read_text(encoding="utf-8"))
    assert document["options"]["round_trips_ms"] == [2.0] and document["options"]["tokens"] == 6
    assert (tmp_path / "modes.png").is_file()


def test_json_on_standard_output_is_the_file(tmp_path: Path, tiny_model_path: Path) -> None:
    options = [*TINY, "--rounds", "1", "--threads", "1", "--model", str(tiny_model_path)]
    done = invoke("edge", *options, "--out", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((tmp_path / "edge.json").read_text(encoding="utf-8"))


def test_the_ladders_options_reach_its_bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    report = bench_module("report")

    def run(bench: Any, *, out: Path) -> Any:
        asked.append(bench)
        return report.Report({"results": {}, "environment": report.environment()}, [], [], None)

    monkeypatch.setattr(report, "run", run)
    given = ["--model", "a.gguf", "--model", "b.gguf", "--no-staged", "--seeds", "3", "--prompt-file", "p.jsonl"]
    assert invoke("ladder", *given, "--out", str(tmp_path)).exit_code == 0
    assert (asked[0].models, asked[0].staged, asked[0].seeds) == (("a.gguf", "b.gguf"), "", 3)
    assert asked[0].prompt_file == Path("p.jsonl")
    assert invoke("ladder", "--staged", "folder", "--out", str(tmp_path)).exit_code == 0
    assert asked[1].staged == "folder" and asked[1].models[0] == "smollm2-q4_0"


def test_quick_means_few_short_answers_unless_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    report = bench_module("report")

    def run(bench: Any, *, out: Path) -> Any:
        asked.append(bench)
        return report.Report({"results": {"passed": len(asked) < 2}, "environment": report.environment()}, [], [], None)

    monkeypatch.setattr(report, "run", run)
    assert invoke("lossless", "--quick", "--tokens", "9", "--out", str(tmp_path)).exit_code == 0
    assert (asked[0].prompts, asked[0].tokens) == (5, 9)
    assert invoke("lossless", "--out", str(tmp_path)).exit_code == 1  # told to have failed
    assert (asked[1].prompts, asked[1].tokens) == (50, 64)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["modes", "--stop", "fast"], "stop rule"),
        (["modes", "--mode", "fast"], "mode"),
        (["modes", "--prompts", "51"], "there are 50"),
        (["lossless", "--case", "fast"], "case"),
        (["concurrency", "--clients", "0", "--agents", "0"], "--clients"),
        (["pairs", "--edge-model", "a", "--edge-model", "a"], "each once"),
        (["ladder", "--temperature", "0"], "greedy answers"),
        (["ladder", "--prompts", "51"], "there are 50"),
        (["modes", "--trace", "/nowhere/link.txt"], "cannot be read as a trace"),
    ],
)
def test_bad_options_are_refused_with_a_reason(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    done = invoke(*arguments, "--out", str(tmp_path))
    assert done.exit_code == 2 and complaint in done.stderr
