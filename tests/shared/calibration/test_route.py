"""Thresholds of mode `route`: all of them follow from one answer of each tier."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.shared.calibration.tables import measured
from tests.shared.calibration.test_calibrate import PROMPTS, pair
from updraft.calibration.fit import choose
from updraft.calibration.goals import parse_goal
from updraft.calibration.job import Calibration, calibrate
from updraft.calibration.report import report_page
from updraft.calibration.results import CLOUD_ONLY, EDGE_ONLY, Results, Table
from updraft.calibration.route import alignment_words, routed
from updraft.errors import InvalidRequest
from updraft.modes import Mode

BASE = {"route": {"score": "answer_energy"}}


def answers(count: int) -> Table:
    """Answers that differ from the cloud's the likelier the higher the score."""
    random = np.random.default_rng(3)
    scores = random.uniform(size=count)
    lost = (random.uniform(size=count) < scores**3).astype(float)
    own = [
        measured(f"p{n}", "route", score=float(s), disagreement=float(x), mismatch=float(x))
        for n, (s, x) in enumerate(zip(scores, lost, strict=True))
    ]
    cloud = [measured(f"p{n}", CLOUD_ONLY, share=1.0, answer=(1,)) for n in range(count)]
    edge = [replace(cell, setting=EDGE_ONLY) for cell in own]
    return Table(tuple((cell,) for cell in own), tuple(edge), tuple(cloud))


def test_the_cloud_answers_from_the_threshold_on() -> None:
    table, points = routed(answers(40), BASE)
    losses, shares = table.metric("disagreement"), table.metric("share")
    assert points[0].exact and not losses[:, 0].any() and shares[:, 0].all()
    assert not shares[:, -1].any()
    assert (np.diff(losses, axis=1) >= 0).all() and (np.diff(shares, axis=1) <= 0).all()
    middle = points[20]
    kept = [cell.score is not None and cell.score < middle.value for cell in table.column(20)]
    assert [cell.share == 0.0 for cell in table.column(20)] == kept
    assert middle.settings["route"]["score"] == "answer_energy"


def test_a_threshold_is_chosen_that_keeps_the_promise() -> None:
    table, points = routed(answers(400), {})
    fit = choose(parse_goal("mismatch<=0.1@0.9"), table, points)
    risk = table.metric("mismatch").mean(axis=0)
    assert 0.03 < risk[fit.chosen] < 0.1 < risk[-1]
    assert choose(parse_goal("mismatch<=0.1@0.9"), *routed(answers(4), {})).chosen == 0  # the cloud answers everything


def test_alignment_says_what_it_holds_for() -> None:
    words = alignment_words(routed(answers(400), {})[0], 0.1)
    assert "of the other 200 answers" in words and "not for the threshold" in words
    assert "too few" in alignment_words(routed(answers(3), {})[0], 0.1)


def test_an_answer_without_a_score_is_refused() -> None:
    table = answers(5)
    broken = Table(((replace(table.cells[0][0], score=None),), *table.cells[1:]), table.edge, table.cloud)
    with pytest.raises(InvalidRequest, match="no finite score"):
        routed(broken, {})


async def test_a_route_is_calibrated_on_three_answers_a_prompt(tmp_path: Path) -> None:
    path = tmp_path / "mine.results.jsonl"
    task = Calibration(PROMPTS, Mode.ROUTE, [], parse_goal("share<=0.6"), 12, base=BASE)
    async with pair() as running:
        outcome = await calibrate(running, task, path, lambda *_: None)
    assert len(path.read_text().splitlines()) == 1 + 3 * len(PROMPTS)
    assert outcome.profile.settings["route"]["score"] == "answer_energy"
    assert outcome.profile.curve[outcome.profile.chosen].share <= 0.6
    assert "Conformal alignment" in report_page(outcome, task)
    with contextlib.closing(Results(path, {})) as results:
        assert all(results.get(prompt.key, EDGE_ONLY) for prompt in PROMPTS)
