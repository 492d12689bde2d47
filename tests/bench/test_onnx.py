"""The loops of `bench onnx` take turns on one build; the generator's place is taken by an engine of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import onnx, onnx_loops
from bench.onnx import OnnxBench
from bench.onnx_loops import EngineLoop
from tests.fakes.staged_model import export_without_builder
from updraft.errors import ConfigError, ModelNotFound


class _StandIn(EngineLoop):
    """Where the generator would read the builder's folder, the same graph as we export it."""

    name = "genai"

    def __init__(self, folder: Path, *, context: int, threads: int, ends: list[int]) -> None:
        assert ends == [0, 2]
        super().__init__("genai", folder.with_name("plain"), context=context, threads=threads)


@pytest.fixture
def without_genai(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the forms that were made."""
    made: list[str] = []

    def export(source: Path, target: Path, **options: Any) -> Any:
        made.append(target.name)
        return export_without_builder(source, target, **options)

    monkeypatch.setattr(onnx_loops, "export_staged", export)
    monkeypatch.setattr(onnx_loops, "_build_whole", lambda *_: made.append("built"))
    monkeypatch.setattr(onnx, "GenaiLoop", _StandIn)
    return made


async def test_all_forms_write_the_same_and_are_compared(
    tiny_model_path: Path, tmp_path: Path, without_genai: list[str]
) -> None:
    bench = OnnxBench(
        prompts=2, tokens=5, rounds=3, model=str(tiny_model_path), stages=2, precision="fp32", context=400, threads=1,
        models=tmp_path / "kept",
    )  # fmt: skip
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps == 5
    names = ["engine", "engine, exact", "engine, exact, 2 stages", "genai"]
    assert [row["loop"] for row in results["loops"]] == names
    assert results["texts"] == 6
    assert all(len(row["rounds"]) == 3 and min(row["rounds"]) > 0.0 for row in results["loops"])
    assert results["loops"][0]["same"] == results["loops"][3]["same"] == 6
    assert results["loops"][3]["ratio"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert results["goal_met"] is (results["loops"][0]["ratio"]["median"] >= onnx.GOAL)
    assert bench.tables(results)[0].row_count == 4
    assert without_genai == ["plain", "exact", "stages-2", "built"]
    await bench.measure(steps.append)
    assert without_genai[4:] == ["built"]  # the others were kept


async def test_answers_that_do_not_fit_are_refused(tiny_model_path: Path, without_genai: list[str]) -> None:
    bench = OnnxBench(model=str(tiny_model_path), stages=2, precision="fp32", context=64, tokens=60, threads=1)
    with pytest.raises(ConfigError, match="context of 64"):
        await bench.measure(print)


async def test_bad_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="int3"):
        OnnxBench(precision="int3")  # type: ignore[arg-type]
    with pytest.raises(ModelNotFound):
        await OnnxBench(model=str(tmp_path / "missing.gguf")).measure(print)
