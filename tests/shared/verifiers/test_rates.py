"""Measured rates: counts, intervals, thresholds, and that they belong to one verifier."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.errors import ConfigError, GoalUnreachable, InvalidRequest
from updraft.evaluation.conformal import binomial_tail
from updraft.verifiers import Claim, Resources, open_verifier
from updraft.verifiers.rates import (
    Labelled,
    Rates,
    clopper_pearson,
    find_rates,
    measure_rates,
    rates_folder,
    read_labelled,
    save_rates,
)


def labelled(right: list[float], wrong: list[float]) -> list[Labelled]:
    """Answers whose `logprob` verifier scores these; NaN for none."""
    return [
        Labelled(Claim("q", (), (1,), f"{mark} {number}", float(np.log(score))), mark)
        for mark, scores in ((True, right), (False, wrong))
        for number, score in enumerate(scores)
    ]


async def measured(right: list[float], wrong: list[float], wanted: float | None = None) -> Rates:
    verifier = open_verifier("logprob", Resources())
    return await measure_rates(verifier, labelled(right, wrong), Resources(), wanted=wanted)


async def test_counts_at_the_threshold_and_the_area() -> None:
    rates = await measured([0.9, 0.8, 0.4, float("nan")], [0.6, 0.3, 0.2, 0.1, 0.05])
    assert (rates.right, rates.passed_right, rates.wrong, rates.passed_wrong, rates.unjudged) == (4, 2, 5, 1, 1)
    assert rates.false_positive_rate == 0.2 and rates.true_positive_rate == 0.5
    assert rates.area == pytest.approx(14 / 15)
    assert rates.ceiling(0.5) == pytest.approx(0.5 / 0.7)
    assert (await measured([0.5, 0.5], [0.5])).area == 0.5
    assert (await measured([0.1], [0.1])).ceiling(0.5) is None  # nothing passes
    assert (await measured([0.5], [])).false_positive_rate is None


async def test_a_threshold_for_a_wanted_rate_is_the_lowest_that_is_sure() -> None:
    wrong = [number / 200 for number in range(1, 101)]  # up to a half
    rates = await measured([0.9, 0.45], wrong, wanted=0.1)
    assert rates.passed_wrong == 4  # P(Bin(100, 0.1) <= 4) is below 0.05, and of 5 it is not
    assert binomial_tail(4, 100, 0.1) <= 0.05 < binomial_tail(5, 100, 0.1)
    assert clopper_pearson(rates.passed_wrong, 100, level=0.9)[1] <= 0.1
    assert rates.threshold == pytest.approx(97 / 200)


@pytest.mark.parametrize("wrong", [[], [0.1] * 20, [1.0] * 500])
async def test_a_rate_that_cannot_be_had_is_refused(wrong: list[float]) -> None:
    with pytest.raises(GoalUnreachable) as caught:
        await measured([0.9], wrong, wanted=0.05)
    assert "at least 59" in caught.value.remedy


async def test_rates_come_back_for_this_verifier_and_no_other(tmp_path: Path) -> None:
    rates = await measured([0.9, 0.8], [number / 200 for number in range(1, 101)], wanted=0.2)
    path = save_rates(tmp_path, rates)
    assert json.loads(path.read_text())["passed_wrong"] == rates.passed_wrong
    resources = Resources(records=tmp_path)
    again = open_verifier("logprob", resources)
    assert again.threshold == rates.threshold and again.false_positive_rate == rates.false_positive_rate
    other = open_verifier({"kind": "logprob", "threshold": 0.5}, resources)
    assert other.threshold == 0.5 and other.false_positive_rate is None  # not what was measured
    number = open_verifier({"kind": "number", "value": 1}, resources)
    assert number.false_positive_rate is None and number.threshold == 0.5
    assert open_verifier("logprob", Resources()).false_positive_rate is None


async def test_passing_follows_the_measured_threshold(tmp_path: Path) -> None:
    save_rates(tmp_path, await measured([0.9, 0.8], [number / 200 for number in range(1, 101)], wanted=0.2))
    verifier = open_verifier("logprob", Resources(records=tmp_path))
    below, above = await verifier.judge([Claim("q", (), (1,), "a", float(np.log(score))) for score in (0.3, 0.46)])
    assert (below.passed, above.passed) == (False, True)


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    (tmp_path / "number-abc.json").write_text('{"kind": "number"}')
    with pytest.raises(ConfigError, match="measure again|no rates"):
        find_rates(tmp_path, "number", "abc")
    assert find_rates(tmp_path, "number", "other") is None


def test_where_rates_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert rates_folder() == tmp_path / "updraft" / "verifiers"


@settings(deadline=None)
@given(st.integers(1, 200), st.floats(0, 1))
def test_the_interval_holds_the_rate_and_has_its_level(total: int, part: float) -> None:
    count = round(total * part)
    low, high = clopper_pearson(count, total)
    assert 0 <= low <= count / total <= high <= 1
    if count < total:
        assert binomial_tail(count, total, high) == pytest.approx(0.025, rel=1e-6)
    if count > 0:
        assert 1 - binomial_tail(count - 1, total, low) == pytest.approx(0.025, rel=1e-6)


def test_known_intervals() -> None:
    np.testing.assert_allclose(clopper_pearson(0, 10), (0.0, 0.3084971), atol=1e-6)
    np.testing.assert_allclose(clopper_pearson(5, 10), (0.1870860, 0.8129140), atol=1e-6)


def test_labelled_answers_are_read(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(
        '{"question": "q", "answer": "4", "right": true, "logprob": -1}\n{"question": "", "answer": "", "right": false}'
    )
    first, second = read_labelled(file)
    assert first.claim.text == "4" and first.right and first.claim.logprob == -1.0 and not second.right


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"question": "q", "answer": "a"}', "right is None"),
        ('{"question": "q", "answer": "a", "right": 1}', "right is 1"),
        ('{"question": "q", "right": true}', "answer is missing"),
        ('{"answer": "a", "right": true}', "question is missing"),
        ('{"question": "q", "answer": "a", "right": true, "logprob": "x"}', "logprob"),
        ('{"question": "q", "answer": "a", "right": true, "settings": 1}', "settings is 1"),
        (
            '{"question": "q", "answer": "a", "right": true, "settings": {"value": 1}}\n'
            '{"question": "q", "answer": "a", "right": true}',
            "some lines have settings",
        ),
        ("[]", "must be an object"),
        ("", "not one item"),
    ],
)
def test_lines_that_are_wrong_are_named(line: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(line)
    with pytest.raises(InvalidRequest, match=reason):
        read_labelled(file)


async def test_no_answers_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        await measured([], [])


async def test_questions_may_have_settings_of_their_own(tmp_path: Path) -> None:
    """What thin tests let pass: rates of the verifier with any tests."""
    lines = [
        Labelled(Claim(f"{value}?", (), (), answer), right, {"value": value})
        for value in range(8)
        for answer, right in ((f"It is {value}.", True), (f"It is {value + 1}.", False), (f"So {value}.", value > 5))
    ]
    resources = Resources(records=tmp_path)
    verifier = open_verifier({"kind": "number", "value": 0}, resources)
    rates = await measure_rates(verifier, lines, resources)
    assert (rates.right, rates.passed_right, rates.wrong, rates.passed_wrong) == (10, 10, 14, 6)
    save_rates(tmp_path, rates)
    other = open_verifier({"kind": "number", "value": 77}, resources)
    assert other.false_positive_rate == pytest.approx(6 / 14)
    assert open_verifier({"kind": "number", "value": 77, "tolerance": 1}, resources).false_positive_rate is None
    with pytest.raises(InvalidRequest, match="tolerance"):
        await measure_rates(verifier, [Labelled(lines[0].claim, True, {"tolerance": 1})], resources)
    with pytest.raises(InvalidRequest, match=r"verifier\.value"):
        await measure_rates(verifier, [Labelled(lines[0].claim, True, {"value": "x"})], resources)
