"""A calibration from text: fitted on one part, judged by another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fakes.staged_engine import FakeStagedEngine
from updraft.errors import InvalidRequest
from updraft.exits.aids import exits_digest
from updraft.exits.calibration import ExitCalibration
from updraft.exits.collect import Observations, Passage
from updraft.exits.isotonic import Curve
from updraft.exits.job import calibrate, split_passages
from updraft.exits.plot import plot_reliability
from updraft.exits.report import exit_qualities, threshold_table

PASSAGES = [Passage(tuple((seed * n + n * n) % 62 for n in range(60)), 4) for seed in range(40)]


def test_answers_to_one_prompt_are_on_one_side_and_the_split_is_the_seeds() -> None:
    twins = [Passage((*passage.tokens[:30], 1), passage.first) for passage in PASSAGES]
    fitting, judging = split_passages([*PASSAGES, *twins], 0.3, 5)
    assert len(fitting) + len(judging) == 80
    starts = [{passage.tokens[:4] for passage in side} for side in (fitting, judging)]
    assert not starts[0] & starts[1]
    assert split_passages([*PASSAGES, *twins], 0.3, 5) == (fitting, judging)
    assert split_passages([*PASSAGES, *twins], 0.3, 6)[0] != fitting


def test_too_little_text_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="1 passages"):
        split_passages(PASSAGES[:1], 0.3, 0)
    with pytest.raises(InvalidRequest, match="at least 32"):
        calibrate(FakeStagedEngine(), PASSAGES[:1], PASSAGES[1:], positions=30, held_out=0.3)


def test_calibrated_probabilities_hold_on_other_text(tmp_path: Path) -> None:
    engine = FakeStagedEngine(exit_noise=2.0)
    done: list[int] = []
    calibration, judged = calibrate(
        engine, *split_passages(PASSAGES, 0.4, 0), positions=1500, held_out=0.4, progress=done.append
    )
    assert done == sorted(done) and done[-1] == calibration.facts["positions"] + len(judged) == 1500
    for quality in exit_qualities(calibration, judged):
        assert quality.error < 0.1
        if quality.raw_error is not None and quality.score == "probability":
            assert quality.error < quality.raw_error
    rows = threshold_table(calibration, judged, "probability", (0.5, 0.7, 0.9), 6)
    assert rows[0].agreement > judged.agreed[0].mean()
    assert [sum(row.leaves) for row in rows] == sorted((sum(row.leaves) for row in rows), reverse=True)
    calibration.save(tmp_path)
    assert ExitCalibration.load(tmp_path, exits_digest(engine)) == calibration
    for score in ("probability", "patience"):
        plot_reliability(calibration, judged, score, tmp_path / "plot.png", title="a test")
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_token_leaves_at_the_first_exit_that_passes() -> None:
    even = Curve((0.0, 1.0), (0.0, 1.0), 100)
    curves = {(stage, "probability"): even for stage in (0, 1)}
    scores = [np.array([0.9, 0.1, 0.2, 0.6]), np.array([0.1, 0.8, 0.3, 0.9])]
    agreed = [np.array([True, False, False, False]), np.array([False, True, False, True])]
    seen = Observations((0, 1), (2, 4), {"probability": scores}, agreed)
    calibration = ExitCalibration("m", curves, curves)
    half, most, never = threshold_table(calibration, seen, "probability", (0.5, 0.85, 1.0), 8)
    assert half.leaves == (0.5, 0.25)
    assert half.agreement == pytest.approx(2 / 3)  # the fourth left too early
    assert half.depth == pytest.approx((2 + 4 + 8 + 2) / 4 / 8)
    assert (most.leaves, most.agreement) == ((0.25, 0.25), 1.0)
    assert never.leaves == (0.0, 0.0) and np.isnan(never.agreement) and never.depth == 1.0
