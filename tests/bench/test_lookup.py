"""Looked-up drafts measured: rows, plot, and both tiers with a tiny model. Nothing here depends on speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.lookup import WAYS, LookupBench, rows_of
from bench.lookup_plot import plot_lookup
from tests.bench.answers import answer
from updraft.errors import ConfigError, ModelNotFound


def test_a_row_compares_with_the_baseline() -> None:
    alone = [answer([1, 2, 3, 4], cloud_passes=4)]
    looked_up = [answer([1, 2, 3, 4], cloud_passes=2, accepted=2, round_trips=2, lookup_drafted=4, lookup_accepted=2)]
    other = [answer([1, 2, 3, 5], cloud_passes=2)]
    first, second, third = rows_of({"cloud (baseline)": alone, "lookup": looked_up, "wrong": other})
    assert (first["vs_cloud"], first["lookup_stood"], first["same"]) == (1.0, None, "1/1")
    assert (second["lookup_share"], second["lookup_stood"], second["accepted_length"]) == (0.5, 0.5, 1.0)
    assert (second["cloud_passes_per_token"], second["same"]) == (0.5, "1/1")
    assert third["same_as_cloud"] == 0


@pytest.mark.parametrize(
    "options",
    [{"round_trips_ms": ()}, {"round_trips_ms": (-1.0,)}, {"ways": ("hope",)}, {"tasks": ("x",)}, {"tokens": 600}],
)
def test_options_that_cannot_be_measured_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        LookupBench(**options)


async def test_a_folder_without_questions_is_named(tmp_path: Path, tiny_model_path: Path) -> None:
    bench = LookupBench(data=tmp_path, edge_model=str(tiny_model_path), pin=False)
    with pytest.raises(ModelNotFound, match=r"question\.jsonl"):
        await bench.measure(lambda text: None)


async def test_every_way_writes_the_clouds_text(tmp_path: Path, tiny_pair: tuple[Path, Path]) -> None:
    pytest.importorskip("matplotlib")
    edge, cloud = map(str, tiny_pair)
    folder = tmp_path / "spec_bench"
    folder.mkdir()
    lines = [{"category": task, "turns": ["abc abc abd " * 4]} for task in ("summarization", "rag", "writing")]
    (folder / "question.jsonl").write_text("\n".join(map(json.dumps, lines)))
    options: dict[str, Any] = {"each": 1, "tokens": 12, "longest_prompt": 100, "context": 128, "pin": False}
    bench = LookupBench(tmp_path, round_trips_ms=(2.0,), edge_model=edge, cloud_model=cloud, **options)
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps
    assert results["passed"]
    assert [row["way"] for row in results["rows"]] == [*WAYS, *WAYS]
    assert results["prompts"] == {"summarization": 1, "rag": 1}
    json.dumps(results, allow_nan=False)
    assert bench.tables(results)[0].row_count == 2 * len(WAYS)
    plot_lookup(results["rows"], tmp_path / "lookup.png", subtitle="tiny")
    assert (tmp_path / "lookup.png").stat().st_size > 10_000
