"""Divergence from a reference in full precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import agreement
from bench.agreement import AgreementBench, divergence
from tests.fakes.staged_model import export_without_builder


def test_divergence_is_that_of_the_distributions() -> None:
    expected = np.log(np.array([[0.5, 0.5], [0.9, 0.1]], np.float32))
    found = np.log(np.array([[0.25, 0.75], [0.9, 0.1]], np.float32)) + 3  # a constant changes no distribution
    result = divergence(expected, found)
    assert result["nats"] == pytest.approx([0.5 * np.log(2) + 0.5 * np.log(2 / 3), 0], abs=1e-6)
    assert result["same"].tolist() == [False, True]
    assert result["probability"] == pytest.approx(0.25)
    assert result["difference"] == pytest.approx(3 + np.log(1.5))
    assert divergence(expected[:, ::-1], expected)["same"].tolist() == [True, False]


async def test_full_precision_agrees_and_the_others_nearly(
    tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(agreement, "export_staged", export_without_builder)
    bench = AgreementBench(
        prompts=2, tokens=4, model=str(tiny_model_path), others=(), threads=1, models=tmp_path / "kept"
    )
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps
    found = {row["engine"]: row for row in results["engines"]}
    full = found["onnx-fp32"]
    assert results["passed"]
    assert full["agreement"] == 1.0
    assert full["mean_nats"] < 1e-6
    assert 0 < full["largest_difference"] < 1e-3
    for name, row in found.items():
        assert row["mean_nats"] >= 0.99 * full["mean_nats"], name
        assert row["agreement"] > 0.5, name
    assert found["onnx-int4"]["weight_mib"] < full["weight_mib"]
    assert bench.tables(results)[0].row_count == len(found)
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {name for name in found if "onnx" in name}
