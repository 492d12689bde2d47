"""Perplexity consistency."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.routing.votes import final_answer, vote


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("She has 3 apples.\nSo the answer is 1,200 apples.", "1200"),
        ("4 + 4 = 8\n#### 8", "8"),
        ("The total is 7.50 dollars", "7.5"),
        ("It costs $-3.", "-3"),
        ("\\boxed{42}", "42"),
        ("First line 5\nThe capital is Paris!", "the capital is paris"),
        ("", ""),
        ("  \n \n", ""),
        ("...", ""),
    ],
)
def test_final_answers(text: str, answer: str) -> None:
    assert final_answer(text) == answer


def test_probable_samples_weigh_more() -> None:
    ballot = vote(["is 1", "is 2", "so 2"], [math.log(0.9), math.log(0.3), math.log(0.4)])
    assert ballot.winner == 0
    assert ballot.confidence == pytest.approx(0.9 / 1.6)


def test_identical_samples_count_once() -> None:
    ballot = vote(["is 1", "is 2", "is 2", "is 2"], [math.log(0.6)] + [math.log(0.5)] * 3)
    assert ballot.winner == 0
    assert ballot.confidence == pytest.approx(0.6 / 1.1)


def test_the_likeliest_of_the_winners_is_kept_unless_the_own_one_wins() -> None:
    assert vote(["is 1", "is 2", "so 2"], [math.log(0.1), math.log(0.3), math.log(0.4)]).winner == 2
    assert vote(["is 2", "is 1", "so 2"], [math.log(0.1), math.log(0.1), math.log(0.4)]).winner == 0


def test_samples_whose_probability_is_unknown_weigh_nothing() -> None:
    ballot = vote(["is 1", "is 2"], [float("nan"), math.log(0.2)])
    assert (ballot.winner, ballot.confidence) == (1, 1.0)
    assert vote(["is 1", "is 2"], [float("nan"), float("-inf")]).confidence == 0.0
    with pytest.raises(ValueError, match="0 samples"):
        vote([], [])


@given(st.lists(st.tuples(st.text(max_size=30), st.floats(-50, 0)), min_size=1, max_size=8))
def test_the_winner_is_a_sample_and_the_confidence_a_share(samples: list[tuple[str, float]]) -> None:
    texts, logprobs = zip(*samples, strict=True)
    ballot = vote(texts, logprobs)
    assert 0 <= ballot.winner < len(texts)
    assert 0 <= ballot.confidence <= 1 + 1e-9
