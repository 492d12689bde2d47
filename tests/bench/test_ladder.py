"""The ladder's table on tiny models. Nothing here depends on how fast the machine is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.ladder import COLUMNS, LadderBench, costs, goal
from tests.fakes.staged_model import export_without_builder, write_exit
from tests.fakes.tiny_model import write_tiny_model
from updraft.engine import open_engine
from updraft.errors import ConfigError, InvalidRequest, MissingExtra, ModelNotFound
from updraft.models.rung_gguf import export_gguf, requantise
from updraft.models.rungs import read_rung
from updraft.models.weights import read_weights


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A cloud model, its Q4_0, an exit as a GGUF, and the whole in stages with that exit."""
    folder = tmp_path_factory.mktemp("ladder")
    cloud = write_tiny_model(folder / "cloud.gguf", layers=4)
    exit2 = write_exit(folder / "exit2.safetensors", read_weights(cloud), 2)
    requantise(cloud, folder / "full.gguf", "Q4_0")
    export_gguf(cloud, read_rung(exit2), folder / "exit2.gguf", quantisation="Q8_0")
    export_without_builder(cloud, folder / "staged", rungs=[exit2], precision="fp32")
    return {name: str(folder / name) for name in ("cloud.gguf", "full.gguf", "exit2.gguf", "staged")}


def bench(family: dict[str, str], **options: Any) -> LadderBench:
    given: dict[str, Any] = {
        "prompts": 4,
        "tokens": 8,
        "seeds": 2,
        "rounds": 2,
        "speed_tokens": 4,
        "context": 512,
        "cloud_model": family["cloud.gguf"],
        "models": (family["full.gguf"], family["exit2.gguf"]),
        "staged": family["staged"],
    }
    return LadderBench(**(given | options))


async def test_every_rung_has_its_row(family: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    measured = bench(family)
    steps: list[str] = []
    results = await measured.measure(steps.append)
    assert len(steps) == measured.steps == 1 + 2 * 4 * 3 + 2
    rows = results["rows"]
    assert [row["rung"] for row in rows] == [
        "cloud.gguf (cloud)",
        "full.gguf",
        "exit2.gguf",
        "staged",
        "staged, exit 2",
    ]
    assert [row["layers"] for row in rows] == [4, 4, 3, 4, 3]
    assert [row["library"] for row in rows] == ["llama.cpp"] * 3 + ["ONNX Runtime"] * 2
    cloud, _, exit_gguf, whole, exit_onnx = rows
    assert cloud["agreement"] == cloud["acceptance"] == 1.0 and results["passed"]
    assert cloud["divergence"] == pytest.approx(0.0, abs=1e-4) and cloud["cost_of_cloud"] == 1.0
    assert rows[1]["cost"] == whole["cost"] == 1.0
    assert whole["agreement"] > 0.8 > exit_onnx["agreement"]  # the same weights in another library
    assert exit_gguf["divergence"] == pytest.approx(exit_onnx["divergence"], rel=0.2)  # the same exit, twice
    assert results["positions"] == {"greedy": 32, "sampled": 64} and results["left_out"] == []
    json.dumps(results, allow_nan=False)
    (table,) = measured.tables(results)
    assert table.row_count == 5 and all(key in row for row in rows for key in COLUMNS)
    assert measured.plot(results, tmp_path / "ladder.png")
    assert (tmp_path / "ladder.png").read_bytes().startswith(b"\x89PNG")


async def test_without_its_extra_the_staged_model_is_left_out(
    family: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = open_engine

    def without(model: str, **options: Any) -> Any:
        if model == family["staged"]:
            raise MissingExtra("no onnxruntime", remedy='pip install "updraft-llm[onnx]"')
        return real(model, **options)

    monkeypatch.setattr("bench.ladder.open_engine", without)
    measured = bench(family, prompts=1)
    results = await measured.measure(lambda _text: None)
    assert len(results["rows"]) == 3 and "updraft-llm[onnx]" in results["left_out"][0]
    assert "left out" in str(measured.tables(results)[0].caption)


async def test_prompts_come_evenly_from_a_file(family: dict[str, str], tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [{"turns": ["a", "b"]}, {"question": "c"}, {"prompt": "d"}, {"prompt": "e"}]
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert list(bench(family, prompt_file=file, prompts=2)._prompts()) == ["a", "d"]
    results = await bench(
        family, prompt_file=file, prompts=2, seeds=1, staged="", models=(family["full.gguf"],)
    ).measure(lambda _: None)
    assert results["texts"] == 4
    with pytest.raises(ConfigError, match="has 4 prompts"):
        bench(family, prompt_file=file, prompts=5)._prompts()
    (tmp_path / "none.jsonl").write_text('{"answer": 1}', encoding="utf-8")
    with pytest.raises(InvalidRequest):
        bench(family, prompt_file=tmp_path / "none.jsonl")._prompts()
    with pytest.raises(ModelNotFound):
        bench(family, prompt_file=tmp_path / "gone.jsonl")._prompts()


async def test_what_does_not_fit_the_context_is_refused(family: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="context"):
        await bench(family, context=64, tokens=60, staged="").measure(lambda _text: None)


async def test_a_gguf_is_not_a_staged_model(family: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="not a staged model"):
        await bench(family, staged=family["full.gguf"]).measure(lambda _text: None)


@pytest.mark.parametrize(
    "options",
    [{"prompts": 0}, {"prompts": 51}, {"tokens": 0}, {"seeds": 0}, {"rounds": 0}, {"temperature": 0.0}, {"models": ()}],
)
def test_options_are_checked_before_anything_starts(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        LadderBench(**options)


def row(rung: str, library: str, rounds: list[float], agreement: float) -> dict[str, Any]:
    return {"rung": rung, "library": library, "rounds": rounds, "agreement": agreement}


def test_costs_are_medians_of_rounds_against_the_full_model_of_the_library() -> None:
    rows = [
        row("cloud", "a", [4.0, 8.0, 4.0], 1.0),
        row("full", "a", [2.0, 4.0, 2.0], 0.8),
        row("small", "a", [1.0, 2.0, 9.0], 0.5),
        row("staged", "b", [8.0, 8.0, 8.0], 0.9),
        row("exit", "b", [2.0, 4.0, 2.0], 0.4),
    ]
    costs(rows)
    assert [one["cost"] for one in rows] == [2.0, 1.0, 0.5, 1.0, 0.25]
    assert [one["cost_of_cloud"] for one in rows] == [1.0, 0.5, 0.25, 2.0, 0.5]
    assert goal(rows) is None
    rows[4]["agreement"] = 0.45
    rows.append(row("student", "a", [], 0.5) | {"cost": 0.45})
    assert goal(rows) == "student"
