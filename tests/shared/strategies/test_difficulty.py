"""How hard a question is: features of pilot answers, and a model fitted to them."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.strategies.difficulty import Difficulty, features_of, fit_difficulty
from updraft.strategies.problem import Sample


def sample(answer: str | None, logprob: float = -0.1, entropy: float | None = None) -> Sample:
    return Sample(f"it is {answer}", (1,), logprob, answer, entropy=entropy)


def test_agreement_and_certainty_make_a_question_easy() -> None:
    easy = features_of([sample("4", entropy=0.1), sample("4", entropy=0.3)], [0.9, 0.7])
    assert easy == pytest.approx((0.0, 0.1, 0.2, 0.1, 0.0, 0.0, 0.0))
    split = features_of([sample("4"), sample("5"), sample("4"), sample("6")])
    assert split == pytest.approx((0.5, 0.1, 0.0, 0.5, 0.0, 0.0, 0.0))
    assert features_of([sample(None, -2.0)], [None]) == pytest.approx((1.0, 2.0, 0.0, 0.5, 0.0, 0.0, 0.0))
    assert features_of([]) == (1.0, 10.0, 0.0, 0.5, 0.0, 0.0, 0.0)
    edge = [Sample("it is 4", (1,), -0.1, "4", entropy=e, energy=f) for e, f in ((0.5, 3.0), (1.5, 5.0), (None, None))]
    assert features_of([sample("4")], None, edge)[5:] == pytest.approx((1.0, -4.0))


@given(
    st.lists(st.tuples(st.sampled_from(["1", "2", None]), st.floats(-5, 0)), min_size=1, max_size=6),
    st.sampled_from([0, 1, 2, 3, 5]),
    st.floats(0.01, 3.0),
)
def test_difficulty_grows_with_every_feature(answers: list[tuple[str | None, float]], place: int, more: float) -> None:
    features = list(features_of([sample(answer, logprob) for answer, logprob in answers]))
    model = Difficulty()
    before = model.of(features)
    features[place] += more
    assert 0.0 <= before <= model.of(features) <= 1.0


def test_a_fit_finds_the_model_that_made_the_labels() -> None:
    draw = random.Random(5)
    true = Difficulty(intercept=-2.0, weights=(3.0, 1.0, 0.0, 2.0, -1.0, 0.5, 0.0))
    rows = [tuple(draw.random() for _ in range(7)) for _ in range(8000)]
    wrong = [draw.random() < true.of(row) for row in rows]
    fitted = fit_difficulty(rows, wrong, ridge=1e-6)
    assert fitted.intercept == pytest.approx(-2.0, abs=0.35)
    assert fitted.weights == pytest.approx(true.weights, abs=0.35)
    mean = sum(map(fitted.of, rows)) / len(rows)
    assert mean == pytest.approx(sum(wrong) / len(rows), abs=1e-3)  # what a logistic fit with an intercept promises


def test_what_cannot_be_separated_stays_finite() -> None:
    fitted = fit_difficulty([(0.0,) * 7, (1.0,) * 7], [False, True])
    assert all(map(math.isfinite, (fitted.intercept, *fitted.weights)))
    assert fitted.of((0,) * 7) < 0.5 < fitted.of((1,) * 7)
    pairs: list[tuple[list[tuple[float, ...]], list[bool]]] = [([], []), ([(0.0,) * 7], [])]
    for rows, labels in pairs:
        with pytest.raises(ValueError, match="labels"):
            fit_difficulty(rows, labels)
