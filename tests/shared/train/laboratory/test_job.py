from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.shared.train.laboratory.conftest import TINY
from updraft.errors import ModelNotFound
from updraft.models import read_model_info
from updraft.train.laboratory.job import LabJob, train_laboratory
from updraft.train.laboratory.loop import LabPoint


@pytest.fixture
def job(tmp_path: Path) -> LabJob:
    """Seconds of training: what comes out has learned how a line looks, not how to reckon."""
    return LabJob(
        tmp_path / "run",
        scale=0.05,
        rollouts=24,
        held_out=16,
        measured=7,
        samples=4,
        shapes={"edge": TINY, "cloud": TINY},
    )


def test_the_whole_family(job: LabJob) -> None:
    stages: dict[str, list[LabPoint]] = {}

    def progress(stage: str, done: int, total: int, point: LabPoint | None) -> None:
        assert 0 <= done <= total
        stages.setdefault(stage, []).extend([point] if point else [])

    job = replace(job, progress=progress)
    paths = train_laboratory(job)
    assert [path.name for path in paths] == ["edge.gguf", "cloud.gguf", "reward.gguf"]
    assert len({read_model_info(path).tokenizer_hash for path in paths}) == 1
    assert len({read_model_info(path).fingerprint for path in paths}) == 3
    assert {"training edge", "answers of the edge model", "training reward"} < stages.keys()
    card = (job.out / "cloud.md").read_text()
    assert "# lab-cloud" in card and "0 (greedy)" in card and "k = 4" in card and "8 op." in card
    facts = json.loads((job.out / "cloud.json").read_text())
    assert [run["temperature"] for run in facts["accuracy"]] == [0.0, 0.8, 1.0]
    assert facts["recipe"]["steps"] == facts["curve"][-1]["step"] == job.recipe("cloud").steps
    reward = (job.out / "reward.md").read_text()
    assert "AUC" in reward and "whole answers" in reward and str(job.out) not in card + reward
    before = {path: path.stat().st_mtime_ns for path in job.out.rglob("*") if path.is_file()}
    assert train_laboratory(job) == paths
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing was left to do


def test_the_reward_model_needs_the_others(job: LabJob) -> None:
    with pytest.raises(ModelNotFound, match=r"edge\.gguf is not there") as caught:
        train_laboratory(replace(job, parts=("reward",)))
    assert "Train the edge model first" in caught.value.remedy


def test_parts_can_come_one_after_another(job: LabJob) -> None:
    for part in ("edge", "cloud", "reward"):
        assert train_laboratory(replace(job, parts=(part,))) == [job.model(part)]
