from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.errors import BadModelFile, ConfigError, ModelNotFound
from updraft.exits.calibration import CALIBRATION_FILE, ExitCalibration


def fitted(seed: int = 0, positions: int = 300, exits: int = 2) -> ExitCalibration:
    generator = np.random.default_rng(seed)
    scores = [generator.random(positions) for _ in range(exits)]
    agreed = [generator.random(positions) < values for values in scores]
    named = {"probability": scores, "patience": [np.round(3 * values) for values in scores]}
    return ExitCalibration.fit("0123456789abcdef", range(exits), named, agreed, {"positions": positions})


@given(st.integers(0, 2**32), st.integers(32, 200), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_a_saved_calibration_is_read_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, seed: int, positions: int, exits: int
) -> None:
    folder = tmp_path_factory.mktemp("model")
    calibration = fitted(seed, positions, exits)
    assert calibration.save(folder) == folder / CALIBRATION_FILE
    assert ExitCalibration.load(folder, "0123456789abcdef") == calibration
    assert [path.name for path in folder.iterdir()] == [CALIBRATION_FILE]


def test_an_exit_and_those_behind_it_agree_at_least_as_often_as_the_exit() -> None:
    calibration = fitted(positions=3000)
    for value in (0.1, 0.5, 0.9):
        assert calibration.outlook(0, "probability", value) >= calibration.agrees(0, "probability", value)
        assert calibration.outlook(1, "probability", value) == calibration.agrees(1, "probability", value)


def test_what_was_not_calibrated_is_named() -> None:
    with pytest.raises(ConfigError, match="q was not calibrated at stage 0; there is: patience at stage 0"):
        fitted().agrees(0, "q", 0.5)


def test_a_calibration_of_another_model_is_refused(tmp_path: Path) -> None:
    fitted().save(tmp_path)
    with pytest.raises(BadModelFile, match="made for the model 0123456789ab"):
        ExitCalibration.load(tmp_path, "fedcba9876543210")


def test_a_missing_calibration_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        ExitCalibration.load(tmp_path)
    assert "updraft calibrate exits" in caught.value.remedy


def curve(**changes: Any) -> dict[str, Any]:
    return {"scores": [0.0, 1.0], "probabilities": [0.2, 0.8], "positions": 50, **changes}


BAD_CURVES = [
    curve(scores=[1.0, 0.0]),
    curve(scores=[0.0, 0.0]),
    curve(probabilities=[0.8, 0.2]),
    curve(probabilities=[0.2, 1.1]),
    curve(probabilities=[-0.1, 0.5]),
    curve(probabilities=[0.5]),
    curve(scores=[]),
    curve(scores=[0.0, "1"]),
    curve(positions=0),
    curve(more=1),
]


def whole(**changes: Any) -> dict[str, Any]:
    entry = {"stage": 0, "score": "probability", "agreement": curve(), "outlook": curve()}
    return {"format": "updraft-exit-calibration-1", "model": "m", "curves": [entry], "facts": {}, **changes}


def entry(**changes: Any) -> dict[str, Any]:
    return {**whole()["curves"][0], **changes}


@pytest.mark.parametrize(
    "record",
    [
        *(whole(curves=[entry(agreement=bad)]) for bad in BAD_CURVES),
        whole(curves=[entry(outlook=None)]),
        whole(curves=[entry(stage=-1)]),
        whole(curves=[entry(stage="0")]),
        whole(curves=[entry(), entry()]),
        whole(curves=[]),
        whole(format="updraft-exit-calibration-2"),
        whole(model=7),
        whole(unknown=1),
        [],
        None,
    ],
)
def test_a_damaged_calibration_is_refused(tmp_path: Path, record: Any) -> None:
    (tmp_path / CALIBRATION_FILE).write_text(json.dumps(record))
    with pytest.raises(BadModelFile, match="not a calibration of exits"):
        ExitCalibration.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "\x00", '{"format": NaN}', "[" * 100_000, '"' + "x" * (17 * 2**20) + '"'])
def test_bytes_that_are_no_calibration_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / CALIBRATION_FILE).write_text(text)
    with pytest.raises(BadModelFile):
        ExitCalibration.load(tmp_path)


def test_numbers_that_json_cannot_say_are_refused_in_a_curve(tmp_path: Path) -> None:
    text = json.dumps(whole(curves=[entry(agreement=curve(scores=[0.0, float("inf")]))]))
    (tmp_path / CALIBRATION_FILE).write_text(text)
    with pytest.raises(BadModelFile):
        ExitCalibration.load(tmp_path)
