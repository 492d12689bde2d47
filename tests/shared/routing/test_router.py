"""A router: from a verdict log to a file, and back, for its own pair only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from updraft.errors import BadModelFile, InvalidRequest, ModelNotFound, WrongTrunk
from updraft.routing.features import PROMPT_FEATURES, TOKEN_FEATURES
from updraft.routing.router import find_router, read_router
from updraft.routing.verdict_log import VerdictLog, read_verdicts
from updraft.train.router import RouterRecipe, give_up_labels, train_router

EDGE, CLOUD = "e" * 64, "c" * 64


def write_log(path: Path, *, answers: int = 40, length: int = 30, cloud: str = CLOUD, prompts: bool = True) -> None:
    """Answers in which low margins are rejected; entropy says nothing."""
    random = np.random.default_rng(0)
    log = VerdictLog(path)
    for _ in range(answers):
        prompt = random.normal(size=len(PROMPT_FEATURES)).astype(np.float32) if prompts else None
        number = log.begin(edge=EDGE, cloud=cloud, mode="draft", prompt=prompt)
        for place in range(length):
            features = random.normal(size=len(TOKEN_FEATURES)).astype(np.float32)
            log.add(number, place, bool(features[TOKEN_FEATURES.index("margin")] > -0.5), features)
    log.close()


def test_a_log_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "verdicts.jsonl"
    write_log(path, answers=2, length=3)
    write_log(path, answers=1, length=2)
    answers = read_verdicts([path])
    assert [len(answer.rows) for answer in answers] == [3, 3, 2]
    assert answers[0].features.shape == (3, len(TOKEN_FEATURES))
    assert answers[0].places == [0, 1, 2]
    assert (answers[0].edge, answers[0].cloud, answers[0].mode) == (EDGE, CLOUD, "draft")


def test_features_that_are_not_finite_are_not_logged(tmp_path: Path) -> None:
    log = VerdictLog(tmp_path / "log")
    number = log.begin(edge=EDGE, cloud=CLOUD, mode="draft", prompt=None)
    log.add(number, 0, True, np.full(len(TOKEN_FEATURES), np.nan, np.float32))
    log.close()
    with pytest.raises(InvalidRequest, match="no verdict"):
        read_verdicts([tmp_path / "log"])


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "3", '{"of":"nobody","place":0,"stood":1,"features":[]}', '{"answer":"x","version":9}', '{"of":1}'],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log"
    write_log(path, answers=1, length=1)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InvalidRequest, match="line 3"):
        read_verdicts([path])


def test_a_missing_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="nowhere"):
        read_verdicts([tmp_path / "nowhere"])


def test_a_router_beats_entropy_where_entropy_says_nothing(tmp_path: Path) -> None:
    write_log(tmp_path / "log")
    card = train_router(read_verdicts([tmp_path / "log"]), tmp_path / "r.safetensors", RouterRecipe(epochs=15))
    assert card["auc"]["router"]["area"] > 0.95 > 0.65 > card["auc"]["entropy"]["area"]
    low, high = card["auc"]["router"]["interval"]
    assert low <= card["auc"]["router"]["area"] <= high
    assert json.loads((tmp_path / "r.json").read_text()) == card
    router = read_router(tmp_path / "r.safetensors")
    rows = np.zeros((2, len(TOKEN_FEATURES)), np.float32)
    rows[:, TOKEN_FEATURES.index("margin")] = 2, -2
    assert router.token(rows[0]).rejected < 0.2 < 0.8 < router.token(rows[1]).rejected
    assert 0 <= router.prompt(np.zeros(len(PROMPT_FEATURES), np.float32)) <= 1
    assert router.facts["auc"] == card["auc"]


def test_a_router_is_for_its_own_pair(tmp_path: Path) -> None:
    write_log(tmp_path / "log", answers=10, prompts=False)
    train_router(read_verdicts([tmp_path / "log"]), tmp_path / "r.safetensors", RouterRecipe(epochs=1))
    router = read_router(find_router(str(tmp_path / "r.safetensors")))
    router.check_pair(EDGE, CLOUD)
    router.check_pair(EDGE, None)
    with pytest.raises(WrongTrunk, match="edge"):
        router.check_pair("f" * 64, CLOUD)
    with pytest.raises(WrongTrunk, match="cloud"):
        router.check_pair(EDGE, "f" * 64)
    with pytest.raises(WrongTrunk, match="without prompts"):
        router.prompt(np.zeros(len(PROMPT_FEATURES), np.float32))


def test_logs_that_teach_nothing_are_refused(tmp_path: Path) -> None:
    write_log(tmp_path / "few", answers=3)
    with pytest.raises(InvalidRequest, match="3 answers"):
        train_router(read_verdicts([tmp_path / "few"]), tmp_path / "r.safetensors")
    write_log(tmp_path / "two", cloud=CLOUD)
    write_log(tmp_path / "two", cloud=EDGE)
    with pytest.raises(InvalidRequest, match="2 model pairs"):
        train_router(read_verdicts([tmp_path / "two"]), tmp_path / "r.safetensors")
    alike = read_verdicts([tmp_path / "few"]) * 4
    for answer in alike:
        answer.stood = [True] * len(answer.stood)
    with pytest.raises(InvalidRequest, match="alike"):
        train_router(alike, tmp_path / "r.safetensors")


def test_files_that_are_no_router_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadModelFile, match="no router"):
        read_router(tmp_path / "bad.safetensors")
    from safetensors.numpy import save_file

    save_file({"a": np.ones(1, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(BadModelFile, match="format is None"):
        read_router(tmp_path / "other.safetensors")
    with pytest.raises(ModelNotFound, match="nowhere"):
        find_router("nowhere")


def test_giving_up_looks_at_what_follows() -> None:
    labels = give_up_labels([True, False, False, False, False, True, True, True, True, True])
    assert labels[0] == 1  # four of the next eight
    assert labels[4] == 0
    assert np.isnan(labels[7:]).all()
