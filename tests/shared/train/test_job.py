from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.fakes.tiny_model import write_tiny_model
from tests.shared.train.conftest import conversations, write_lines
from updraft.engine import open_engine
from updraft.errors import ConfigError, InvalidRequest, MissingExtra, ModelNotFound
from updraft.exits.heads import ExitHead
from updraft.models.rung_gguf import export_gguf
from updraft.models.rungs import read_rung
from updraft.models.staged.hf_folder import write_model
from updraft.models.weights import Weights, read_weights
from updraft.train import job as jobs
from updraft.train.distil import Point, Recipe
from updraft.train.job import Job, train_exits, train_student

RECIPE = Recipe(epochs=1, batch_tokens=256, evaluations=2)


@pytest.fixture(scope="session")
def text_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("text") / "text.jsonl", conversations(60, seed=8))


@pytest.fixture
def job(tmp_path: Path, trunk_path: Path, text_path: Path) -> Job:
    options: dict[str, Any] = {"longest": 64, "held_out": 0.2, "recipe": RECIPE, "threads": 1, "device": "cpu"}
    return Job(str(trunk_path), tmp_path / "run", (text_path,), **options)


@pytest.fixture
def no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_rates", lambda *_: None)


def test_exits_end_to_end(job: Job, trunk_path: Path, weights: Weights) -> None:
    stages: dict[str, tuple[int, int]] = {}
    points: list[Point] = []

    def progress(stage: str, done: int, total: int, point: Point | None) -> None:
        stages[stage] = (done, total)
        if point:
            points.append(point)

    paths = train_exits(replace(job, progress=progress), [1, 3])
    assert paths == [job.out / "exit1.safetensors", job.out / "exit3.safetensors"]
    assert list(stages) == [
        "teacher on held out text",
        "teacher on training text",
        "training exit1",
        "training exit3",
    ]
    assert all(done == total for done, total in stages.values())
    for path, layer in zip(paths, (1, 3), strict=True):
        rung = read_rung(path)
        rung.check_trunk(weights)
        assert (rung.kind, rung.layer, rung.trained) == ("exit", layer, frozenset({layer}))
        head = ExitHead.from_tensors(rung.tensors, weights.shape.width)
        assert 0 < head(np.zeros(weights.shape.width, np.float32)).agrees < 1
        facts = rung.facts
        assert facts["agreement"] == [p for p in points if p.agreement == facts["agreement"]][-1].agreement
        assert 0 <= facts["acceptance_0"] <= 1 and 0 <= facts["acceptance_0.8"] <= 1
        assert facts["trunk"] == trunk_path.name  # no folders of the machine
        assert sum(facts["answer_tokens"]) == sum(len(c.response) for c in conversations(60, seed=8))
        assert facts["recipe"]["epochs"] == 1 and facts["device"] == "cpu"
        card = path.with_suffix(".md").read_text(encoding="utf-8")
        assert f"{100 * facts['agreement']:.1f} %" in card
        assert "tokens/s, trunk as Q4_0" in card
    assert [path.name for path in (job.out / "speed").iterdir()] == [f"trunk-{weights.fingerprint[:12]}.gguf"]


@pytest.mark.usefixtures("no_speed")
def test_a_student_end_to_end(job: Job, trunk_path: Path, weights: Weights, tmp_path: Path) -> None:
    path = train_student(job, [0, 2, 3], frozen=1)
    rung = read_rung(path)
    assert (rung.kind, rung.sources, rung.trained) == ("student", (0, 2, 3), frozenset({1, 2}))
    assert not any(name.startswith("head.") for name in rung.tensors)
    assert "The first 1 are the trunk's own" in path.with_suffix(".md").read_text(encoding="utf-8")
    assert "tokens/s" not in path.with_suffix(".md").read_text(encoding="utf-8")
    export_gguf(trunk_path, rung, tmp_path / "student.gguf", quantisation="Q8_0")
    engine = open_engine(tmp_path / "student.gguf", context=64, sequences=1, threads=1)
    assert engine.info.layers == 3
    engine.shutdown()


@pytest.mark.usefixtures("no_speed")
def test_a_run_that_was_interrupted_ends_in_the_same_rungs(job: Job, tmp_path: Path) -> None:
    whole = [path.read_bytes() for path in train_exits(job, [1, 2])]

    class Interrupted(Exception):
        pass

    def until(stage: str, limit: int) -> Any:
        def progress(now: str, done: int, _total: int, _point: Point | None) -> None:
            if now == stage and done >= limit:
                raise Interrupted

        return progress

    cut = replace(job, out=tmp_path / "cut")
    for stage, limit in (("teacher on training text", 1), ("training exit1", 2), ("training exit2", 3)):
        with pytest.raises(Interrupted):
            train_exits(replace(cut, progress=until(stage, limit)), [1, 2])
    again = [_timeless(path.read_bytes()) for path in train_exits(cut, [1, 2])]
    assert again == [_timeless(data) for data in whole]


def _timeless(data: bytes) -> tuple[dict[str, Any], bytes]:
    """A rung's file with its training time taken out."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"]["facts"] = json.loads(header["__metadata__"]["facts"]) | {"seconds": 0}
    return header, data[8 + size :]


@pytest.mark.usefixtures("no_speed")
def test_text_that_the_trunk_writes_first(job: Job, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"Say something about {n}." for n in range(12)))
    stages: list[str] = []
    asked = replace(
        job,
        texts=(),
        prompts=(prompts,),
        longest=128,
        progress=lambda stage, *_: stages.append(stage),
    )
    path = train_student(asked, [0, 3])
    assert stages[0] == "writing text"
    lines = [json.loads(line) for line in (job.out / "text.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == list(range(12))
    assert max(len(line["response"]) for line in lines) == 64  # half of a conversation
    assert sum(read_rung(path).facts["answer_tokens"]) == sum(len(line["response"]) for line in lines)


@pytest.mark.usefixtures("no_speed")
def test_plain_text_and_a_folder_as_the_trunk(job: Job, tmp_path: Path, weights: Weights, text_path: Path) -> None:
    plain = tmp_path / "plain.md"
    plain.write_text("the start and the end of it\n" * 60)
    assert train_student(replace(job, texts=(text_path, plain)), [0, 3]).is_file()
    write_model(weights, tmp_path / "model", bos=1, end_tokens=[2])
    folder = replace(job, trunk=str(tmp_path / "model"), out=tmp_path / "other")
    rung = read_rung(train_student(folder, [0, 3]))
    assert rung.trunk == read_weights(tmp_path / "model").fingerprint
    with pytest.raises(InvalidRequest, match="need the model as a GGUF"):
        train_student(replace(folder, texts=(plain,)), [0, 3])


@pytest.mark.parametrize("layers", [[], [2, 1], [1, 1], [1, 4], [-1], [-1, 2]])
def test_layers_out_of_range_or_unordered_are_refused(job: Job, layers: list[int]) -> None:
    for train in (train_exits, train_student):
        with pytest.raises(InvalidRequest, match="layers"):
            train(job, layers)
    assert not job.out.exists()


@pytest.mark.parametrize("frozen", [-1, 2, 3])
def test_frozen_layers_must_be_the_trunks_first(job: Job, frozen: int) -> None:
    with pytest.raises(InvalidRequest, match="frozen layers"):
        train_student(job, [0, 2, 3], frozen=frozen)


@pytest.mark.usefixtures("no_speed")
def test_a_folder_of_another_run_is_refused(job: Job) -> None:
    train_student(job, [0, 3])
    with pytest.raises(ConfigError, match="holds another training run"):
        train_student(replace(job, recipe=replace(RECIPE, seed=5)), [0, 3])


def test_text_that_leaves_nothing_to_hold_out_or_to_train_on(job: Job, tmp_path: Path) -> None:
    one = write_lines(tmp_path / "one.jsonl", conversations(1))
    with pytest.raises(InvalidRequest, match="1 conversations are too few"):
        train_exits(replace(job, texts=(one,)), [1])
    with pytest.raises(InvalidRequest, match="too few"):
        train_exits(replace(job, held_out=1e-6), [1])
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InvalidRequest, match="no text"):
        train_exits(replace(job, texts=(tmp_path / "empty.jsonl",)), [1])
    with pytest.raises(ModelNotFound):
        train_exits(replace(job, texts=(tmp_path / "nothing.jsonl",)), [1])


def test_conversations_longer_than_the_models_context_are_refused(job: Job) -> None:
    with pytest.raises(InvalidRequest, match="513 tokens do not fit the model's context of 512"):
        train_exits(replace(job, longest=513), [1])


def test_devices_and_folders_that_cannot_be_used(job: Job, tmp_path: Path) -> None:
    for device in ("cuda:99", "abacus"):
        with pytest.raises(ConfigError, match="torch has no device"):
            train_exits(replace(job, device=device), [1])
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        train_exits(replace(job, out=tmp_path / "file/run"), [1])


@pytest.mark.usefixtures("no_speed")
def test_a_disk_that_fills_up_anywhere_is_said(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jobs, "write_card", full)
    with pytest.raises(ConfigError, match="No space left on device") as caught:
        train_student(job, [0, 3])
    assert "goes on from what is there" in caught.value.remedy


def test_auto_takes_a_gpu_when_there_is_one(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    for there, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert replace(job, device="auto").torch_device().type == name


def test_a_run_is_not_lost_where_speed_cannot_be_measured(
    job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise MissingExtra("llama.cpp is not installed")

    monkeypatch.setattr(jobs, "requantise", missing)
    with caplog.at_level(logging.WARNING):
        path = train_student(job, [0, 3])
    assert "speed was not measured: llama.cpp is not installed" in caplog.text
    assert path.is_file() and path.with_suffix(".md").is_file()


@pytest.mark.usefixtures("no_speed")
def test_a_vocabulary_smaller_than_the_best_tokens_kept(job: Job, tmp_path: Path) -> None:
    """A Hugging Face folder of 40 tokens; 64 are kept elsewhere."""
    whole = read_weights(write_tiny_model(tmp_path / "tiny.gguf"))
    tables = {"model.embed_tokens.weight", "lm_head.weight"}

    class Cut:
        def shapes(self) -> dict[str, tuple[int, ...]]:
            return {name: (40, 64) if name in tables else shape for name, shape in whole.shapes().items()}

        def read(self, name: str) -> Any:
            return whole[name][:40] if name in tables else whole[name]

    small = Weights(replace(whole.shape, vocabulary=40), "x", Cut())
    write_model(small, tmp_path / "model", bos=1, end_tokens=[2])
    random = np.random.default_rng(0)
    lines = [{"prompt": [1, n], "response": random.integers(3, 40, 9).tolist()} for n in range(2, 40)]
    (tmp_path / "text.jsonl").write_text("\n".join(map(json.dumps, lines)))
    out = train_exits(replace(job, trunk=str(tmp_path / "model"), texts=(tmp_path / "text.jsonl",)), [1])
    assert read_rung(out[0]).facts["agreement"] > 0
