"""Likeness of texts and distributions, against slow and plain reckoning."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.evaluation.similarity import edit_similarity, kl_divergence, lcs_f1, prefix_share, total_variation
from updraft.sampling import Distribution, Sampled

tokens = st.lists(st.integers(0, 3), max_size=8)


def distance(one: list[int], other: list[int]) -> int:
    if not one or not other:
        return len(one) + len(other)
    if one[0] == other[0]:
        return distance(one[1:], other[1:])
    return 1 + min(distance(one[1:], other), distance(one, other[1:]), distance(one[1:], other[1:]))


def common(one: list[int], other: list[int]) -> int:
    if not one or not other:
        return 0
    if one[0] == other[0]:
        return 1 + common(one[1:], other[1:])
    return max(common(one[1:], other), common(one, other[1:]))


@given(tokens, tokens)
def test_edits_and_common_parts_are_those_of_the_definitions(one: list[int], other: list[int]) -> None:
    longest = max(len(one), len(other))
    assert edit_similarity(one, other) == pytest.approx(1 - distance(one, other) / longest if longest else 1.0)
    total = len(one) + len(other)
    assert lcs_f1(one, other) == pytest.approx(2 * common(one, other) / total if total else 1.0)


@pytest.mark.parametrize(
    ("one", "other", "prefix", "edit", "rouge"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 1.0, 1.0, 1.0),
        ([1, 2, 3, 4], [1, 2, 9, 4], 0.5, 0.75, 0.75),
        ([1, 2, 3], [4, 5, 6], 0.0, 0.0, 0.0),
        ([1, 2], [1, 2, 3, 4], 0.5, 0.5, 2 / 3),
        ([], [], 1.0, 1.0, 1.0),
        ([], [1], 0.0, 0.0, 0.0),
    ],
)
def test_worked_examples(one: list[int], other: list[int], prefix: float, edit: float, rouge: float) -> None:
    assert prefix_share(one, other) == prefix
    assert edit_similarity(one, other) == edit
    assert lcs_f1(one, other) == pytest.approx(rouge)


def view(*probabilities: tuple[int, float]) -> Sampled:
    top = tuple((token, math.log(probability)) for token, probability in probabilities)
    return Sampled(0, -1.0, Distribution(0.0, 1.0, 0.5), top)


def test_distributions_that_are_fully_known_have_their_exact_distance() -> None:
    one, other = view((0, 0.5), (1, 0.5)), view((0, 0.9), (1, 0.1))
    assert total_variation(one, other) == pytest.approx(0.4)
    assert kl_divergence(one, other) == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))
    assert total_variation(one, one) == kl_divergence(one, one) == 0.0


def test_what_is_unknown_counts_as_one_token_and_never_too_much() -> None:
    # In full: one is 0.6, 0.4; other is 0.6 on the first and 0.4 on a third token. Only the first is shared.
    one, other = view((0, 0.6), (1, 0.4)), view((0, 0.6), (2, 0.4))
    assert total_variation(one, other) == pytest.approx(0.0)
    assert total_variation(view((0, 0.9)), view((0, 0.2))) == pytest.approx(0.7)
    assert 0 <= kl_divergence(view((0, 0.9)), view((3, 0.2))) < 1e-9
