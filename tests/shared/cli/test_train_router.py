"""`updraft train router`: from logs or from prompts to a router, its card and its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.tiny_model import write_tiny_model
from tests.shared.cli.conftest import Updraft
from tests.shared.routing.test_router import write_log
from updraft.errors import InvalidRequest
from updraft.routing.router import read_router
from updraft.routing.verdict_log import read_verdicts
from updraft.train.verdicts import training_prompts


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "gsm8k").mkdir(parents=True)
    (folder / "instruct_dolly2000").mkdir()
    lines = [json.dumps({"question": f"How many are {n} apples and {n} pears?", "answer": "#### 1"}) for n in range(8)]
    (folder / "gsm8k" / "train.jsonl").write_text("\n".join(lines))
    items = [{"instruction": f"Say {word}.", "input": "", "output": word} for word in ("yes", "no", "so")]
    (folder / "instruct_dolly2000" / "dolly_train.json").write_text(json.dumps(items))
    return folder


def test_help_has_an_example(updraft: Updraft) -> None:
    result = updraft("train", "router", "--help")
    assert result.exit_code == 0
    assert "updraft train router --log" in result.stdout


def test_from_a_log(updraft: Updraft, tmp_path: Path) -> None:
    write_log(tmp_path / "log")
    out = tmp_path / "r.safetensors"
    result = updraft("train", "router", "--log", str(tmp_path / "log"), "--out", str(out), "--epochs", "5")
    assert result.exit_code == 0, result.stderr
    assert "AUC against rejection" in result.stdout and "give_up" in result.stdout
    assert read_router(out).facts == json.loads(out.with_suffix(".json").read_text())
    shown = updraft("train", "router", "--log", str(tmp_path / "log"), "--out", str(out), "--epochs", "1", "--json")
    card = json.loads(shown.stdout)
    assert card["path"] == str(out) and 0 <= card["auc"]["router"]["area"] <= 1


@pytest.mark.parametrize(("given", "reason"), [([], "nothing to train on"), (["--log", "nowhere"], "nowhere")])
def test_without_verdicts_it_says_what_to_do(updraft: Updraft, given: list[str], reason: str) -> None:
    result = updraft("train", "router", *given)
    assert result.exit_code != 0
    assert reason in result.stderr


def test_from_prompts_that_the_pair_answers(updraft: Updraft, tmp_path: Path, data: Path) -> None:
    edge = write_tiny_model(tmp_path / "edge.gguf", context=1024, noise=0.3)
    cloud = write_tiny_model(tmp_path / "cloud.gguf", context=1024)
    out = tmp_path / "r.safetensors"
    result = updraft(
        "train", "router", "--data", str(data), "--edge", str(edge), "--cloud", str(cloud), "--out", str(out),
        "--prompts", "10", "--longest", "24", "--at-once", "3", "--epochs", "2", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    answers = read_verdicts([out.with_suffix(".verdicts.jsonl")])
    assert len(answers) == 10 and all(answer.prompt is not None for answer in answers)
    assert json.loads(result.stdout)["answers"] == {"training": 8, "held_out": 2}
    assert read_router(out).prompts is not None


def test_training_prompts_are_taken_in_turn(data: Path, tmp_path: Path) -> None:
    prompts = training_prompts(data, 5)
    assert prompts == [
        "How many are 0 apples and 0 pears?", "Say yes.",
        "How many are 1 apples and 1 pears?", "Say no.",
        "How many are 2 apples and 2 pears?",
    ]  # fmt: skip
    assert len(training_prompts(data, 99)) == 11
    with pytest.raises(InvalidRequest, match="holds none of"):
        training_prompts(tmp_path / "empty", 5)
