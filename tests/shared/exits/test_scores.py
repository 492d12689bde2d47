from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.shared.exits.examples import WIDTH, constant_head, trace_of, view, view_of
from updraft.errors import ConfigError
from updraft.exits.scores import SCORES, Agreement, Certainty, ExitMass, TopProbability, make_score

LOGITS = hnp.arrays(np.float32, 12, elements=st.floats(-60, 60, width=32))


@given(LOGITS)
def test_probability_and_certainty_are_from_0_to_1_and_largest_where_one_token_is_certain(
    logits: np.ndarray[tuple[int], np.dtype[np.float32]],
) -> None:
    seen = [view_of(logits)]
    weights = np.exp(logits.astype(np.float64) - logits.max())
    softmax = weights / weights.sum()
    entropy = -sum(p * math.log(p) for p in softmax if p > 0)
    assert TopProbability()(seen) == pytest.approx(softmax.max(), abs=1e-5)
    assert Certainty()(seen) == pytest.approx(math.exp(-entropy), abs=1e-4)
    assert 0 < TopProbability()(seen) <= 1
    assert 0 < Certainty()(seen) <= 1


def test_certainty_is_one_over_the_number_of_equally_likely_tokens() -> None:
    assert Certainty()([view_of(np.zeros(20, np.float32))]) == pytest.approx(1 / 20)


@pytest.mark.parametrize(
    ("tokens", "count"),
    [([4], 0), ([4, 4], 1), ([4, 5], 0), ([4, 4, 4], 2), ([5, 4, 4], 1), ([4, 4, 5], 0), ([4, 5, 4], 0)],
)
def test_agreement_counts_exits_in_a_row_that_wrote_the_token_before(tokens: list[int], count: int) -> None:
    assert Agreement()(trace_of(tokens)) == count


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=6))
def test_exit_mass_is_the_sum_of_palberts_exit_probabilities(lambdas: list[float]) -> None:
    heads = {stage: constant_head(value) for stage, value in enumerate(lambdas)}
    seen = [view(stage, features=np.zeros(WIDTH, np.float32)) for stage in range(len(lambdas))]
    mass, stays = 0.0, 1.0
    for value in lambdas:
        mass += value * stays
        stays *= 1 - value
    score = ExitMass(heads)
    assert score(seen) == pytest.approx(mass, abs=1e-5)
    assert score(seen) >= score(seen[:1]) - 1e-12


def test_scores_go_by_their_names() -> None:
    heads = {0: constant_head(0.5)}
    assert [make_score(name, heads).name for name in SCORES] == list(SCORES)
    with pytest.raises(ConfigError, match="needs trained exit heads"):
        make_score("q")
    with pytest.raises(ConfigError, match=r"Stage 2 .* stages \[0\]"):
        make_score("q", heads)([view(2, features=np.zeros(WIDTH, np.float32))])
