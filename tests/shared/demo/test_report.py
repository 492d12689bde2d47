from __future__ import annotations

import json
from typing import Any

import pytest

from tests.shared.demo.samples import completion, outage, report, way_figures
from updraft import __version__
from updraft.demo.report import Way, figures
from updraft.modes import Mode

DRAFT = Way(Mode.DRAFT, 0.8)


def test_what_is_per_token_is_a_total_over_the_total_of_tokens() -> None:
    answers = [
        completion("same", tokens=10, cloud_tokens=2, cloud_passes=4, cloud_positions=20, bytes_up=100, bytes_down=50),
        completion(
            "other", tokens=30, cloud_tokens=6, cloud_passes=4, cloud_positions=60, bytes_up=700, bytes_down=350
        ),
    ]
    row = figures(DRAFT, answers, [completion("same"), completion("the cloud's")])
    assert (row.mode, row.temperature, row.prompts, row.tokens) == ("draft", 0.8, 2, 40)
    assert row.cloud_share == pytest.approx(8 / 40)
    assert row.cloud_passes_per_token == pytest.approx(8 / 40)
    assert row.cloud_positions_per_token == pytest.approx(80 / 40)
    assert (row.bytes_up_per_token, row.bytes_down_per_token) == pytest.approx((20.0, 10.0))


def test_rates_and_times_are_medians() -> None:
    # 10 tokens a second after the first, then 1, then 100.
    answers = [
        completion(tokens=11, first_token_seconds=0.1, seconds=1.1),
        completion(tokens=11, first_token_seconds=5.0, seconds=15.0),
        completion(tokens=11, first_token_seconds=0.2, seconds=0.3),
    ]
    row = figures(DRAFT, answers, answers)
    assert row.tokens_per_second == pytest.approx(10.0)
    assert row.first_token_seconds == pytest.approx(0.2)


def test_same_text_counts_each_prompt_against_its_own_reference() -> None:
    answers = [completion("one"), completion("two"), completion("three", degraded=True)]
    row = figures(DRAFT, answers, [completion("one"), completion("three"), completion("three")])
    assert (row.same_text, row.degraded, row.lossless) == (2, 1, False)
    assert figures(DRAFT, answers, answers).lossless


def test_answers_without_a_token_divide_nothing_by_zero() -> None:
    row = figures(DRAFT, [completion("")], [completion("")])
    assert (row.tokens, row.cloud_share, row.tokens_per_second) == (0, 0, 0)


def test_a_way_is_compared_with_the_cloud_sampled_alike() -> None:
    assert Way(Mode.SPAN, 0.8).reference == Way(Mode.CLOUD, 0.8)
    assert Way(Mode.CLOUD, 0.0).reference == Way(Mode.CLOUD, 0.0)


@pytest.mark.parametrize(
    ("changes", "survived", "recovered"),
    [
        ({}, True, True),
        ({"degraded": False}, False, True),
        ({"completed": False}, False, True),
        ({"alone": 0}, False, True),
        ({"next_degraded": True}, True, False),
        ({"next_cloud_passes": 0}, True, False),
    ],
)
def test_what_an_outage_must_show(changes: dict[str, Any], survived: bool, recovered: bool) -> None:
    found = outage(**changes)
    assert (found.survived, found.recovered) == (survived, recovered)
    assert report(**changes).passed is (survived and recovered)


def test_one_draft_that_differs_fails_the_demonstration() -> None:
    sound, lossy = way_figures("draft"), way_figures("draft", 0.8, same_text=5)
    assert report(sound).passed
    assert not report(sound, lossy).passed
    assert report(sound, way_figures("span", same_text=0), way_figures("edge", same_text=0)).passed


def test_json_holds_the_figures_and_the_verdicts() -> None:
    text = json.dumps(report(way_figures("cloud"), way_figures("draft", same_text=5)).to_json(), allow_nan=False)
    found = json.loads(text)
    assert found["version"] == __version__
    assert (found["passed"], found["lossless"], found["one_machine"], found["cores_apart"]) == (
        False,
        False,
        True,
        True,
    )
    assert [(row["mode"], row["same_text"], row["lossless"]) for row in found["modes"]] == [
        ("cloud", 6, True),
        ("draft", 5, False),
    ]
    assert found["modes"][1]["cloud_passes_per_token"] == 0.355
    assert (found["edge"]["model"], found["cloud"]["address"]) == ("small", "127.0.0.1:1")
    assert (found["outage"]["alone"], found["outage"]["survived"], found["outage"]["recovered"]) == (30, True, True)
