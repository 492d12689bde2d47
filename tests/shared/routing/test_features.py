"""Features of tokens and prompts."""

from __future__ import annotations

import math

import pytest

from updraft.routing.features import PROMPT_FEATURES, TOKEN_FEATURES, FeatureWindow, prompt_features
from updraft.sampling import Distribution, Sampled


def token(entropy: float, *, energy: float = 10.0, margin: float = 0.5) -> Sampled:
    return Sampled(7, -0.5, Distribution(energy, entropy, 0.6, margin, 0.9))


def test_rolling_means_look_at_the_last_tokens_only() -> None:
    window = FeatureWindow(20)
    rows = [window.note(token(float(place)), place) for place in range(20)]
    last = dict(zip(TOKEN_FEATURES, rows[-1], strict=True))
    assert last["entropy"] == 19
    assert last["previous_entropy"] == 18
    assert last["entropy_5"] == pytest.approx(17)
    assert last["entropy_16"] == pytest.approx(sum(range(4, 20)) / 16)
    assert last["log_position"] == pytest.approx(math.log1p(19))
    assert last["log_prompt"] == pytest.approx(math.log1p(20))
    assert (last["margin"], last["mass"], last["logprob"]) == pytest.approx((0.5, 0.9, -0.5))
    assert last["gap"] == pytest.approx(math.log(0.6 / 0.1))


def test_after_the_cloud_has_written_the_means_begin_anew() -> None:
    window = FeatureWindow(20)
    window.note(token(9.0), 0)
    window.restart()
    row = dict(zip(TOKEN_FEATURES, window.note(token(1.0), 5), strict=True))
    assert row["entropy_16"] == row["previous_entropy"] == 1


def test_features_say_nothing_of_which_token_it_was() -> None:
    first, second = FeatureWindow(4), FeatureWindow(4)
    one = first.note(Sampled(1, -0.5, token(1.0).distribution), 0)
    other = second.note(Sampled(2, -0.5, token(1.0).distribution), 0)
    assert one.tolist() == other.tolist()


def test_prompt_features_by_hand() -> None:
    rows = [Distribution(8.0, 1.0, 0.5), Distribution(12.0, 3.0, 0.25)]
    features = dict(zip(PROMPT_FEATURES, prompt_features(rows, 9), strict=True))
    assert features["entropy"] == 2
    assert features["energy"] == 10
    assert (features["last_entropy"], features["last_energy"], features["last_top_probability"]) == (3, 12, 0.25)
    assert features["spread_entropy"] == 1
    assert features["log_prompt"] == pytest.approx(math.log(10))
    with pytest.raises(ValueError, match="row"):
        prompt_features([], 3)
