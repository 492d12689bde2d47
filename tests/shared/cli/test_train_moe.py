from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.tiny_model import write_tiny_model
from tests.shared.cli.conftest import Updraft
from tests.shared.train.moe.conftest import write_questions
from updraft.models.moe.packed import read_moe


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    trunk = write_tiny_model(tmp_path / "tiny.gguf", context=512)
    data = write_questions(tmp_path / "q.jsonl", 60)
    sizes = "--layers 2 --width 32 --heads 2 --kv-heads 1 --experts 4 --active 1 --hidden 16 --longest 64"
    run = f"--trunk {trunk} --data {data} --out {tmp_path}/run --steps 4 --rows 2 --held-out 0.2"
    return [*sizes.split(), *run.split()]


def test_a_run_from_the_command_line(updraft: Updraft, tmp_path: Path, options: list[str]) -> None:
    result = updraft("train", "moe", *options)
    assert result.exit_code == 0, result.output
    assert f"{tmp_path}/run/moe.safetensors  (card: {tmp_path}/run/moe.md)" in result.stdout
    assert "training: step 4, loss" in result.stderr
    shape = read_moe(tmp_path / "run/moe.safetensors").shape
    assert (shape.base.layers, shape.experts, shape.active, shape.base.context) == (2, 4, 1, 64)


def test_another_run_in_the_folder_is_refused(updraft: Updraft, options: list[str]) -> None:
    assert updraft("train", "moe", *options).exit_code == 0
    result = updraft("train", "moe", *options, "--seed", "3")
    assert result.exit_code != 0 and "another training run" in result.stderr


def test_help_has_an_example(updraft: Updraft) -> None:
    result = updraft("train", "moe", "--help")
    assert result.exit_code == 0 and "updraft train moe --data" in result.stdout
