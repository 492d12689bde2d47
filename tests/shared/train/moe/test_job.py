from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.shared.train.moe.conftest import RECIPE, write_questions
from updraft.errors import ConfigError, InvalidRequest, WrongTrunk
from updraft.models.moe.folder import write_folder
from updraft.models.moe.packed import read_moe
from updraft.models.weights import Weights
from updraft.train.moe.job import MoeJob, MoeSizes, train_moe
from updraft.train.moe.loop import MoePoint

SIZES = MoeSizes(layers=2, width=32, heads=2, kv_heads=1, hidden=16, experts=4, active=2)


@pytest.fixture
def job(tmp_path: Path, trunk_path: Path) -> MoeJob:
    texts = (write_questions(tmp_path / "q.jsonl", 60),)
    return MoeJob(str(trunk_path), tmp_path / "run", texts, SIZES, RECIPE, longest=96, held_out=0.2)


def test_from_text_to_a_folder(job: MoeJob, trunk_path: Path, weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("The cat and the hat. " * 40)
    points: list[MoePoint] = []
    job = replace(
        job,
        foreign=(tmp_path / "other.txt",),
        drafters=(str(trunk_path),),
        progress=lambda stage, done, total, point: points.append(point) if point else None,
    )
    path = train_moe(job)
    moe = read_moe(path)
    facts = moe.facts
    assert path == job.out / "moe.safetensors" and moe.trunk == weights.fingerprint
    assert [point.step for point in points] == [4, 8, 12]
    folder = tmp_path.name
    assert facts["losses"].keys() == {f"{folder}/q.jsonl, held out", f"{folder}/other.txt"}
    assert all(0 < row["model"] < 20 and row["trunk"] > 0 for row in facts["losses"].values())
    assert facts["drafters"].keys() == {"tiny.gguf"} and 0 <= facts["drafters"]["tiny.gguf"] <= 1
    assert len(facts["routing"]) == 2 and sum(facts["routing"][1]["usage"]) == pytest.approx(1)
    assert facts["parameters"] == sum(values.size for values in moe.tensors.values())
    assert facts["expert_parameters"] == 2 * 4 * 3 * 16 * 32
    assert facts["active_parameters"] == facts["parameters"] - 2 * 64 * 32 - facts["expert_parameters"] // 2
    card = (job.out / "moe.md").read_text()
    assert "in each 4 experts of 16 hidden units" in card and "(moe.png)" in card and "tiny.gguf" in card
    assert str(tmp_path) not in card and str(trunk_path.parent) not in card
    assert (job.out / "moe.png").stat().st_size > 1000
    write_folder(trunk_path, moe, tmp_path / "made")
    assert load_file(tmp_path / "made/model.safetensors")["lm_head.weight"].shape == (320, 32)


def test_the_same_command_gives_the_same_file(job: MoeJob) -> None:
    first = train_moe(job)
    second = train_moe(replace(job, out=job.out.with_name("again")))
    one, other = read_moe(first), read_moe(second)
    assert all((one.tensors[name] == values).all() for name, values in other.tensors.items())
    assert one.facts["losses"] == other.facts["losses"] and one.facts["routing"] == other.facts["routing"]
    assert np.isfinite([row["model"] for row in one.facts["losses"].values()]).all()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (replace(SIZES, width=128, heads=4), "more than the trunk's"),
        (replace(SIZES, active=5), "5 of 4 experts"),
        (replace(SIZES, heads=3, kv_heads=2), "heads"),
    ],
)
def test_sizes_that_no_model_can_have(job: MoeJob, sizes: MoeSizes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        train_moe(replace(job, sizes=sizes))


def test_too_little_text(job: MoeJob, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="too little to hold some out"):
        train_moe(replace(job, texts=(write_questions(tmp_path / "few.jsonl", 2),), held_out=0.001))


def test_a_folder_that_cannot_be_written(job: MoeJob, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        train_moe(replace(job, out=tmp_path / "file/run"))


def test_it_works_with_its_own_trunk_only(job: MoeJob, tmp_path: Path) -> None:
    from tests.fakes.tiny_model import write_tiny_model

    moe = read_moe(train_moe(job))
    with pytest.raises(WrongTrunk):
        write_folder(write_tiny_model(tmp_path / "other.gguf", seed=2), moe, tmp_path / "made")
