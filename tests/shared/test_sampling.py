"""Coupled sampling: exact, reproducible, and a pure function of its inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from updraft.errors import InvalidRequest
from updraft.sampling import MAX_LOGIT_BIAS, MAX_SEED, SHAPE_TOKENS, Sampler, SamplingParams, measure

MASK = 2**64 - 1


def mix(value: int) -> int:
    """SplitMix64, written anew: the reference that the vectorised code must equal."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def gap(seed: int, position: int, token: int) -> float:
    """1 - U of one token."""
    key = mix(mix(seed) ^ position)
    bits = mix((key + (token - 1) * 0x9E3779B97F4A7C15) & MASK) >> 11
    return (bits + 0.5) * 2.0**-53


def gumbel_argmax(logits: NDArray[np.float32], temperature: float, seed: int, position: int) -> int:
    """The definition: argmax of l / T + G with G = -ln(-ln U)."""
    scores = [
        float(logit) / temperature - math.log(-math.log1p(-gap(seed, position, token)))
        for token, logit in enumerate(logits)
    ]
    return int(np.argmax(scores))


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    weights = np.exp((logits.astype(np.float64) - float(logits.max())) / temperature)
    return np.asarray(weights / weights.sum())


def chi_square(counts: NDArray[np.int64], expected: NDArray[np.float64]) -> float:
    """Deviation from the expectation in standard deviations of the chi-square distribution."""
    statistic = float(((counts - expected) ** 2 / expected).sum())
    freedom = len(counts) - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


def draws(logits: NDArray[np.float32], params: SamplingParams, count: int) -> NDArray[np.int64]:
    sampler = Sampler(params)
    return np.array([sampler.draw(logits, position).token for position in range(count)])


@given(st.integers(0, MAX_SEED), st.integers(0, 10**6), st.floats(0.1, 5.0), st.integers(2, 300))
@settings(max_examples=200, deadline=None)
def test_a_draw_is_the_gumbel_argmax_of_the_definition(seed: int, position: int, temperature: float, size: int) -> None:
    logits = (np.random.default_rng(seed).normal(size=size) * 6).astype(np.float32)
    token = Sampler(SamplingParams(temperature=temperature, seed=seed)).draw(logits, position).token
    assert token == gumbel_argmax(logits, temperature, seed, position)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    logits = np.array([2.0, 1.0, 0.5, 0.0, -0.5, -1.0], np.float32)
    count = 20_000
    tokens = draws(logits, SamplingParams(temperature=temperature, seed=11), count)
    counts = np.bincount(tokens, minlength=len(logits))
    assert abs(chi_square(counts, softmax(logits, temperature) * count)) < 4


def test_weak_tokens_below_the_shortcut_still_win_their_share() -> None:
    size = 150_000
    logits = np.full(size, math.log(2e-6), np.float32)
    logits[0] = 0.0  # the others hold 0.3 / 1.3 of the mass, each with a weight of 2e-6
    count = 3_000
    tokens = draws(logits, SamplingParams(temperature=1.0, seed=7), count)
    share = float(softmax(logits)[1:].sum())
    weak = int((tokens != 0).sum())
    assert abs(weak - count * share) < 4 * math.sqrt(count * share * (1 - share))
    assert len(set(tokens[tokens != 0].tolist())) > 0.95 * weak


def test_successive_draws_are_independent() -> None:
    logits = np.zeros(4, np.float32)
    tokens = draws(logits, SamplingParams(temperature=1.0, seed=3), 32_001)
    pairs = np.bincount(tokens[:-1] * 4 + tokens[1:], minlength=16)
    assert abs(chi_square(pairs, np.full(16, 2_000.0))) < 4


def test_draws_of_neighbouring_seeds_are_independent() -> None:
    logits = np.zeros(4, np.float32)
    first = draws(logits, SamplingParams(temperature=1.0, seed=100), 16_000)
    second = draws(logits, SamplingParams(temperature=1.0, seed=101), 16_000)
    pairs = np.bincount(first * 4 + second, minlength=16)
    assert abs(chi_square(pairs, np.full(16, 1_000.0))) < 4


def test_two_close_models_draw_alike_as_often_as_the_theory_promises() -> None:
    """Agreement is at least (1 - d) / (1 + d) at total-variation distance d, without any communication."""
    rng = np.random.default_rng(0)
    large = (rng.normal(size=50) * 2).astype(np.float32)
    small = (large + rng.normal(size=50) * 0.3).astype(np.float32)
    params = SamplingParams(temperature=1.0, seed=1)
    agreement = float((draws(large, params, 5_000) == draws(small, params, 5_000)).mean())
    distance = float(np.abs(softmax(large) - softmax(small)).sum() / 2)
    assert agreement >= (1 - distance) / (1 + distance) - 0.02


@given(st.integers(1, 60), st.floats(0.05, 1.0), st.floats(0.0, 0.5), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_draws_stay_inside_the_kept_set(top_k: int, top_p: float, min_p: float, seed: int) -> None:
    logits = (np.random.default_rng(seed).normal(size=60) * 2).astype(np.float32)
    params = SamplingParams(temperature=1.5, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    token = Sampler(params).draw(logits, 0).token
    order = np.argsort(-logits, kind="stable")[:top_k]
    probabilities = softmax(logits, 1.5)
    kept = order[probabilities[order] >= min_p * probabilities.max() * 0.999]
    mass = np.cumsum(probabilities[kept]) / probabilities[kept].sum()
    nucleus = kept[: int(np.searchsorted(mass, top_p * 0.999)) + 2]
    assert token in nucleus


def test_top_k_and_top_p_keep_the_shape_inside_the_set() -> None:
    logits = np.array([3.0, 2.5, 2.0, 1.0, 0.0, -1.0], np.float32)
    count = 12_000
    for params in (
        SamplingParams(temperature=1.0, top_k=3, seed=2),
        SamplingParams(temperature=1.0, top_p=0.8, seed=2),
        SamplingParams(temperature=1.0, min_p=0.3, seed=2),
    ):
        counts = np.bincount(draws(logits, params, count), minlength=6)
        assert counts[3:].sum() == 0
        assert abs(chi_square(counts[:3], softmax(logits[:3]) * count)) < 4


def test_a_draw_depends_on_nothing_but_its_arguments() -> None:
    logits = (np.random.default_rng(1).normal(size=500)).astype(np.float32)
    params = SamplingParams(temperature=0.9, seed=42)
    fresh = Sampler(params).draw(logits, 17)
    used = Sampler(params)
    for position in range(30):
        used.draw(logits[::-1].copy(), position)
    assert used.draw(logits, 17) == fresh


def test_temperature_zero_is_argmax_and_ignores_the_seed() -> None:
    logits = np.array([0.0, 3.0, 3.0, 1.0], np.float32)
    assert {Sampler(SamplingParams(seed=seed)).draw(logits, seed).token for seed in range(20)} == {1}


@pytest.mark.parametrize("temperature", [1e-4, 1e-20, 1e-31, 1e-45, 1e-319])
def test_a_temperature_next_to_zero_is_argmax(temperature: float) -> None:
    logits = np.array([0.5, 2.0, -1e4, 1.0], np.float32)
    for extra in ({}, {"top_p": 0.9}, {"min_p": 0.1}, {"top_k": 2}):
        sampler = Sampler(SamplingParams(temperature=temperature, seed=1, **extra))
        assert sampler.draw(logits, 3).token == 1
        assert sampler.likeness(logits, 1) == 1.0


def test_repetition_penalty_covers_prompt_and_answer() -> None:
    logits = np.array([2.0, 1.9, 1.8, -1.0], np.float32)
    sampler = Sampler(SamplingParams(repetition_penalty=2.0, seed=0), prompt=[0])
    assert sampler.draw(logits, 0).token == 1
    sampler.commit([1])
    assert sampler.draw(logits, 1).token == 2


def test_frequency_and_presence_penalties_cover_the_answer_alone() -> None:
    logits = np.array([2.0, 1.5, 0.0], np.float32)
    frequency = Sampler(SamplingParams(frequency_penalty=0.3, seed=0), prompt=[0, 0, 0])
    assert frequency.draw(logits, 0).token == 0
    frequency.commit([0])
    assert frequency.draw(logits, 1).token == 0
    frequency.commit([0])
    assert frequency.draw(logits, 2).token == 1
    presence = Sampler(SamplingParams(presence_penalty=0.6, seed=0))
    presence.commit([0])
    assert presence.draw(logits, 1).token == 1


def test_pending_drafts_count_as_if_they_were_committed() -> None:
    logits = np.array([2.0, 1.9, 0.0], np.float32)
    params = SamplingParams(presence_penalty=1.0, repetition_penalty=1.1, seed=0)
    committed = Sampler(params)
    committed.commit([0])
    assert Sampler(params).draw(logits, 1, pending=[0]) == committed.draw(logits, 1)


def test_logit_bias_moves_the_choice_but_not_the_reported_distribution() -> None:
    logits = np.array([1.0, 0.0], np.float32)
    sampled = Sampler(SamplingParams(logit_bias={1: 5.0}, seed=0)).draw(logits, 0)
    assert sampled.token == 1
    assert sampled.logprob == pytest.approx(math.log(softmax(logits)[1]), abs=1e-6)


@given(st.integers(2, 400), st.floats(0.1, 20.0), st.integers(0, 10**6))
@settings(deadline=None)
def test_measures_equal_their_definitions(size: int, scale: float, seed: int) -> None:
    logits = (np.random.default_rng(seed).normal(size=size) * scale).astype(np.float32)
    probabilities = softmax(logits)
    entropy = -float((probabilities * np.log(np.maximum(probabilities, 1e-300))).sum())
    measured = measure(logits)
    wide = logits.astype(np.float64)
    energy = float(wide.max() + np.log(np.exp(wide - wide.max()).sum()))
    assert measured.entropy == pytest.approx(entropy, abs=2e-4)
    assert measured.energy == pytest.approx(energy, abs=1e-4)
    assert measured.top_probability == pytest.approx(float(probabilities.max()), abs=1e-5)


def test_tokens_at_minus_infinity_are_never_drawn_and_do_not_spoil_the_entropy() -> None:
    logits = np.array([0.0, 0.0, -np.inf], np.float32)
    tokens = draws(logits, SamplingParams(temperature=1.0, seed=1), 500)
    assert set(tokens.tolist()) == {0, 1}
    assert measure(logits).entropy == pytest.approx(math.log(2), abs=1e-4)


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="not finite"):
        measure(np.array([0.0, np.nan], np.float32))


@given(st.integers(1, 20), st.integers(0, 1000))
@settings(deadline=None)
def test_alternatives_are_the_most_probable_tokens_in_order(count: int, seed: int) -> None:
    logits = (np.random.default_rng(seed).normal(size=100) * 5).astype(np.float32)
    top = Sampler(SamplingParams(seed=0), top_logprobs=count).draw(logits, 0).top
    order = np.argsort(-logits, kind="stable")[:count]
    assert [token for token, _ in top] == order.tolist()
    assert [logprob for _, logprob in top] == pytest.approx(np.log(softmax(logits)[order]).tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", True),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", -0.5),
        ("repetition_penalty", 0.0),
        ("frequency_penalty", 1e9),
        ("presence_penalty", -1e9),
        ("seed", -1),
        ("seed", MAX_SEED + 1),
        ("logit_bias", {-1: 0.0}),
        ("logit_bias", {1: math.nan}),
        ("logit_bias", dict.fromkeys(range(MAX_LOGIT_BIAS + 1), 0.0)),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=field) as caught:
        SamplingParams(**{field: value})  # type: ignore[arg-type]
    assert caught.value.param == field


def test_a_seed_is_drawn_once_when_none_is_given() -> None:
    params = SamplingParams(temperature=1.0).with_seed()
    assert params.seed is not None
    assert params.with_seed() is params


@given(st.integers(0, 1000), st.integers(2, 400))
def test_margin_and_mass_are_those_of_the_softmax(seed: int, vocabulary: int) -> None:
    logits = np.random.default_rng(seed).normal(size=vocabulary).astype(np.float32) * 4
    distribution = Sampler(SamplingParams(seed=1), shape=True).draw(logits, 0).distribution
    best = np.sort(softmax(logits))[::-1]
    assert distribution.margin == pytest.approx(best[0] - best[1], abs=1e-5)
    assert distribution.mass == pytest.approx(best[:SHAPE_TOKENS].sum(), abs=1e-5)
    assert Sampler(SamplingParams(seed=1)).draw(logits, 0).distribution.margin is None
