"""`updraft calibrate exits` on a tiny staged model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.staged_model import write_staged_model
from tests.shared.cli.conftest import Updraft
from updraft.engine import StagedEngine, open_engine
from updraft.exits.aids import exit_aids


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_staged_model(folder, exits=(1, 2), layers=4)
    return folder


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "staged"))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    path = tmp_path / "text.jsonl"
    lines = [
        {"prompt": generator.integers(3, 300, 5).tolist(), "response": generator.integers(3, 300, 30).tolist()}
        for _ in range(30)
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def test_it_writes_a_calibration_that_the_model_is_opened_with(updraft: Updraft, folder: Path, text: Path) -> None:
    options = ["--positions", "600", "--longest", "64", "--threads", "1"]
    result = updraft("calibrate", "exits", str(folder), "--text", str(text), *options)
    assert result.exit_code == 0, result.output
    assert "layer 1" in result.stdout and "threshold" in result.stdout
    assert "fitted on 450 tokens, the tables are of 150 others" in result.stdout
    assert (folder / "calibration.png").is_file()
    engine = open_engine(folder, context=64, sequences=1, threads=1)
    assert isinstance(engine, StagedEngine)
    calibration = exit_aids(engine).calibration
    engine.shutdown()
    assert calibration is not None
    assert set(calibration.agreement) == {(n, name) for n in (0, 1) for name in ("probability", "entropy", "patience")}
    again = updraft(
        "calibrate", "exits", str(folder), "--text", str(text), *options, "--criterion", "entropy", "--json"
    )
    found = json.loads(again.stdout)
    assert (found["criterion"], found["layers"], found["judged"]) == ("entropy", [1, 2], 150)
    assert [row["threshold"] for row in found["thresholds"]] == [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--criterion", "mood"], "no exit criterion 'mood'"),
        (["--criterion", "q"], "trained head"),
        (["--longest", "20"], "prompt and"),
        (["--plot", "/nowhere/plot.png"], "plot.png"),
    ],
)
def test_what_cannot_be_done_is_said(
    updraft: Updraft, folder: Path, text: Path, options: list[str], message: str
) -> None:
    if "--longest" in options:
        text.write_text(json.dumps({"prompt": list(range(3, 40)), "response": [5, 6, 7]}))
    else:
        options = [*options, "--longest", "64"]
    result = updraft("calibrate", "exits", str(folder), "--text", str(text), "--positions", "600", *options)
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert not isinstance(result.exception, (ValueError, OSError))


def test_a_folder_that_is_none_is_refused(updraft: Updraft, text: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "nothing", text, tmp_path):
        result = updraft("calibrate", "exits", str(place), "--text", str(text))
        assert result.exit_code in (1, 2) and "error" in result.output
