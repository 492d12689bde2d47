from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.fakes.tiny_model import write_tiny_model
from tests.shared.cli.conftest import Updraft
from tests.shared.train.conftest import conversations, write_lines
from updraft.cli.train import parse_layers
from updraft.errors import InvalidRequest
from updraft.models.rungs import read_rung


@pytest.fixture
def trunk(tmp_path: Path) -> str:
    return str(write_tiny_model(tmp_path / "tiny.gguf", layers=3, context=512))


@pytest.fixture
def text(tmp_path: Path) -> str:
    return str(write_lines(tmp_path / "text.jsonl", conversations(40)))


@pytest.mark.parametrize(
    ("value", "layers"),
    [("8", [8]), ("8,16", [8, 16]), ("0-3,28,29", [0, 1, 2, 3, 28, 29]), (" 0-1 , 5 ", [0, 1, 5]), ("4-4", [4])],
)
def test_layers(value: str, layers: list[int]) -> None:
    assert parse_layers(value) == layers


@pytest.mark.parametrize(
    "value",
    ["", ",", "8,", "a", "1-", "-1", "1--2", "1.5", "16,8", "8,8", "0-3,2", "5-3", "1,5-3", "4096", "0-99999999999"],
)
def test_layers_that_are_refused(value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_layers(value)
    assert caught.value.param == "layers"


@pytest.mark.parametrize("verb", ["", "text", "exits", "student", "acceptance"])
def test_help_has_an_example(updraft: Updraft, verb: str) -> None:
    result = updraft("train", *verb.split(), "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout and f"updraft train {verb or 'exits'} smollm2" in result.stdout


def test_exits_from_the_command_line(updraft: Updraft, tmp_path: Path, trunk: str, text: str) -> None:
    options = ["--text", text, "--epochs", "1", "--held-out", "0.3", "--batch-tokens", "256", "--longest", "64"]
    options += ["--threads", "1", "--device", "cpu", "--out", str(tmp_path / "run")]
    result = updraft("train", "exits", trunk, "--layers", "1", *options)
    assert result.exit_code == 0, result.output
    assert f"{tmp_path}/run/exit1.safetensors  (card: {tmp_path}/run/exit1.md)" in result.stdout
    assert "training exit1: epoch 1.00, loss" in result.stderr
    assert read_rung(tmp_path / "run/exit1.safetensors").layer == 1
    again = updraft("train", "exits", trunk, "--layers", "1", *options, "--seed", "3")
    assert again.exit_code == 2 and "holds another training run" in again.stderr


def test_a_student_from_the_command_line(updraft: Updraft, tmp_path: Path, trunk: str, text: str) -> None:
    options = ["--text", text, "--epochs", "1", "--held-out", "0.3", "--longest", "64", "--threads", "1"]
    out = tmp_path / "run"
    result = updraft(
        "train", "student", trunk, "--layers", "0-1", "--frozen", "1", *options, "--device", "cpu", "--out", str(out)
    )
    assert result.exit_code == 0, result.output
    assert read_rung(out / "student.safetensors").trained == {1}


def test_text_from_the_command_line(updraft: Updraft, tmp_path: Path, trunk: str) -> None:
    (tmp_path / "prompts.txt").write_text("One.\nTwo.\n")
    out = tmp_path / "made/text.jsonl"
    command = ["train", "text", trunk, "--prompts", str(tmp_path / "prompts.txt"), "--out", str(out)]
    command += ["--longest", "5", "--context", "128", "--at-once", "2", "--threads", "1"]
    result = updraft(*command)
    assert result.exit_code == 0, result.output
    assert f"10 tokens written to {out}" in result.stdout
    assert [len(json.loads(line)["response"]) for line in out.read_text().splitlines()] == [5, 5]
    assert "0 tokens written" in updraft(*command).stdout


@pytest.mark.parametrize("verb", ["exits", "student"])
def test_nothing_to_train_on(updraft: Updraft, trunk: str, verb: str) -> None:
    result = updraft("train", verb, trunk, "--layers", "1")
    assert result.exit_code == 2
    assert "nothing to train on" in result.stderr and "--text or --prompts" in result.stderr


@pytest.mark.parametrize("layers", ["5", "2,1", "x"])
def test_wrong_layers_end_with_a_line(updraft: Updraft, tmp_path: Path, trunk: str, text: str, layers: str) -> None:
    result = updraft("train", "exits", trunk, "--layers", layers, "--text", text, "--out", str(tmp_path / "run"))
    assert result.exit_code == 2
    assert "layers" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("verb", ["exits", "student"])
def test_without_torch_the_extra_is_named(
    updraft: Updraft, trunk: str, text: str, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("updraft.train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = updraft("train", verb, trunk, "--layers", "1", "--text", text)
    assert result.exit_code == 2
    assert "training needs torch" in result.stderr and "updraft-llm[train]" in result.stderr


def test_train_acceptance_prints_its_figures_and_writes_a_head(
    updraft: Updraft, tiny_pair: tuple[Path, Path], text: str, tmp_path: Path
) -> None:
    edge, cloud = map(str, tiny_pair)
    out = tmp_path / "head.safetensors"
    quick = ("--epochs", "1", "--narrow", "8", "--threads", "1", "--held-out", "0.2")
    result = updraft("train", "acceptance", edge, cloud, "--text", text, "--out", str(out), *quick, "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["path"] == str(out) and out.is_file()
    assert set(figures["qualities"]) == {"always", "confidence", "head"}
    shown = updraft("train", "acceptance", edge, cloud, "--text", text, "--out", str(out), *quick)
    assert shown.exit_code == 0 and "log loss" in shown.stdout and "confidence" in shown.stdout


def test_train_acceptance_without_text_says_what_to_give(updraft: Updraft, tiny_pair: tuple[Path, Path]) -> None:
    result = updraft("train", "acceptance", *map(str, tiny_pair))
    assert result.exit_code == 2 and "--prompts" in result.output
