from __future__ import annotations

from pathlib import Path

import pytest

from tests.shared.cli.conftest import Updraft
from updraft.train.laboratory import job as jobs
from updraft.train.laboratory.job import LabJob


def test_help_has_examples(updraft: Updraft) -> None:
    result = updraft("train", "laboratory", "--help")
    assert result.exit_code == 0 and "updraft train laboratory --out" in result.stdout


def test_options_become_a_job(updraft: Updraft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[LabJob] = []

    def train(job: LabJob) -> list[Path]:
        asked.append(job)
        return [job.model(part) for part in job.parts]

    monkeypatch.setattr(jobs, "train_laboratory", train)
    result = updraft("train", "laboratory", "--out", str(tmp_path), "--part", "edge", "--scale", "0.5", "--seed", "3")
    assert result.exit_code == 0, result.output
    assert f"{tmp_path}/edge.gguf  (card: {tmp_path}/edge.md)" in result.stdout
    assert (asked[0].parts, asked[0].scale, asked[0].seed) == (("edge",), 0.5, 3)
    assert updraft("train", "laboratory", "--out", str(tmp_path)).exit_code == 0
    assert asked[1].parts == ("edge", "cloud", "reward")


def test_a_reward_model_without_the_others(updraft: Updraft, tmp_path: Path) -> None:
    result = updraft("train", "laboratory", "--out", str(tmp_path), "--part", "reward")
    assert result.exit_code != 0 and "Train the edge model first" in result.stderr
