"""Token scores, and the policy that compares them over a window."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from tests.fakes.engine import LetterTokenizer
from updraft.mode_settings import SpanSettings
from updraft.modes import Origin
from updraft.routing.features import TOKEN_FEATURES
from updraft.routing.network import Network
from updraft.routing.router import Router
from updraft.sampling import Distribution, Sampled
from updraft.token_log import TokenLog
from updraft_edge.answer import Answer
from updraft_edge.policies.scores import EnergyScore, EntropyScore, make_score, uniform
from updraft_edge.policies.span import ScorePolicy
from updraft_edge.seams import Decision, HandOver


def token(entropy: float = 1.0, *, energy: float = 20.0, margin: float | None = 0.5) -> Sampled:
    return Sampled(1, -1.0, Distribution(energy, entropy, 0.5, margin, None if margin is None else 0.9))


def answer() -> Answer:
    return Answer(TokenLog([1, 2]), LetterTokenizer(64), ends=frozenset(), stop=(), most=500, started=0.0)


def router(rejected: float = 0.0, hopeless: float = 0.0) -> Router:
    """Says the margin's lack: rejected is logistic(8 * (0.5 - margin)) plus a bias, hopeless is a constant."""
    weight = np.zeros((2, len(TOKEN_FEATURES)), np.float32)
    weight[0, TOKEN_FEATURES.index("margin")] = -8
    odds = math.log(hopeless / (1 - hopeless)) if 0 < hopeless < 1 else -20.0
    bias = np.array([4.0 + rejected, odds], np.float32)
    return Router(Network([weight], [bias]), None, edge="e", cloud="c")


def policy(settings: SpanSettings, *, threshold: float | None = None, given: Router | None = None) -> ScorePolicy:
    own = answer()
    threshold = settings.escalate if threshold is None else threshold
    score = make_score(settings, threshold=threshold, seed=3, prompt_length=2, router=given)
    return ScorePolicy(settings, score, own, threshold)


async def decide(policy: ScorePolicy, tokens: Sequence[Sampled]) -> list[Decision | HandOver]:
    decisions = []
    for sampled in tokens:
        decisions.append(await policy.decide([sampled]))
        policy._answer.commit([sampled], Origin.EDGE, verified=False)
    return decisions


WINDOW = SpanSettings(window=3, escalate=2.0, hand_back=1.0, min_stay=4)


async def test_the_window_hands_over_once_its_mean_is_high_and_the_stay_is_over() -> None:
    decisions = await decide(policy(WINDOW), [token(value) for value in [9.0, 0.0, 0.0, 0.0, 1.0, 4.0, 2.0]])
    assert decisions[:-1] == [Decision.COMMIT] * 6  # a high mean inside the stay, then means of 0, 1/3 and 5/3
    assert decisions[-1] == HandOver(1.0, 3, 4)


async def test_a_single_high_token_is_not_enough() -> None:
    assert set(await decide(policy(WINDOW), [token(value) for value in [0.0] * 5 + [5.5] + [0.0] * 5])) == {
        Decision.COMMIT
    }


async def test_after_a_return_the_window_and_the_stay_begin_anew() -> None:
    held = policy(WINDOW)
    assert isinstance((await decide(held, [token(5.0)] * 4))[-1], HandOver)
    held.returned()
    decisions = await decide(held, [token(5.0)] * 4)
    assert decisions[:3] == [Decision.COMMIT] * 3
    assert isinstance(decisions[3], HandOver)


async def test_two_sided_also_hands_over_where_the_model_repeats_itself() -> None:
    settings = SpanSettings(score="two_sided", window=3, escalate=2.0, floor=0.05, hand_back=1.0, min_stay=3)
    assert isinstance((await decide(policy(settings), [token(0.01)] * 3))[-1], HandOver)
    assert isinstance((await decide(policy(settings), [token(2.5)] * 3))[-1], HandOver)
    assert (await decide(policy(settings), [token(0.5)] * 6))[-1] is Decision.COMMIT
    one_sided = SpanSettings(window=3, escalate=2.0, hand_back=1.0, min_stay=3)
    assert (await decide(policy(one_sided), [token(0.01)] * 3))[-1] is Decision.COMMIT


async def test_low_energy_is_unsure() -> None:
    settings = SpanSettings(score="energy", window=2, escalate=-15.0, min_stay=2)
    assert (await decide(policy(settings), [token(energy=20.0)] * 4))[-1] is Decision.COMMIT
    assert isinstance((await decide(policy(settings), [token(energy=12.0)] * 4))[-1], HandOver)


async def test_a_narrow_lead_is_unsure() -> None:
    settings = SpanSettings(score="margin", window=2, escalate=0.7, min_stay=2)
    assert (await decide(policy(settings), [token(margin=0.9)] * 4))[-1] is Decision.COMMIT
    assert isinstance((await decide(policy(settings), [token(margin=0.1)] * 4))[-1], HandOver)


async def test_random_hands_over_by_seed_and_place_alone() -> None:
    settings = SpanSettings(score="random", escalate=0.8, min_stay=1)
    first = await decide(policy(settings), [token(value) for value in np.linspace(0, 9, 300)])
    second = await decide(policy(settings), [token(0.0)] * 300)
    assert first == second
    assert np.mean([isinstance(decision, HandOver) for decision in first]) == pytest.approx(0.2, abs=0.06)


def test_uniform_numbers_are_uniform() -> None:
    numbers = [uniform(1, place) for place in range(4000)]
    assert np.mean(numbers) == pytest.approx(0.5, abs=0.02)
    assert np.quantile(numbers, [0.1, 0.9]) == pytest.approx([0.1, 0.9], abs=0.02)
    assert uniform(1, 7) != uniform(2, 7)


async def test_the_router_keeps_asks_and_hands_over() -> None:
    settings = SpanSettings(score="learned", window=1, min_stay=1, escalate=0.9, ask=0.6)
    decisions = await decide(policy(settings, given=router()), [token(margin=m) for m in (0.9, 0.4, 0.05)])
    assert decisions[0] is Decision.COMMIT
    assert decisions[1] is Decision.VERIFY
    assert isinstance(decisions[2], HandOver)


async def test_a_narrow_lead_asks_for_one_token() -> None:
    settings = SpanSettings(score="margin", window=1, min_stay=1, escalate=0.95, ask=0.6)
    decisions = await decide(policy(settings), [token(margin=m) for m in (0.9, 0.3, 0.01)])
    assert decisions[:2] == [Decision.COMMIT, Decision.VERIFY]
    assert isinstance(decisions[2], HandOver)


async def test_the_router_gives_up_at_once_and_drops_the_token() -> None:
    settings = SpanSettings(score="learned", window=5, min_stay=50, escalate=0.9, give_up=0.5)
    decisions = await decide(policy(settings, given=router(hopeless=0.7)), [token(margin=0.9)])
    assert decisions == [HandOver(settings.hand_back, 5, 50, keep=0)]
    assert await decide(policy(settings, given=router(hopeless=0.3)), [token(margin=0.9)]) == [Decision.COMMIT]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
async def test_a_score_that_is_not_finite_counts_as_unsure(bad: float) -> None:
    held = policy(WINDOW)
    assert await decide(held, [token(bad)]) == [HandOver(1.0, 3, 4)]
    assert held.latest is None
    held.returned()
    assert (await decide(held, [token(0.1)] * 5))[-1] is Decision.COMMIT  # and it is forgotten


async def test_a_margin_that_nobody_measured_counts_as_unsure() -> None:
    settings = SpanSettings(score="margin", window=2, escalate=0.7, min_stay=2)
    assert isinstance((await decide(policy(settings), [token(margin=None)]))[0], HandOver)


async def test_without_a_threshold_nothing_is_handed_over() -> None:
    held = ScorePolicy(SpanSettings(score="energy", min_stay=1, window=1), EnergyScore(), answer(), None)
    assert set(await decide(held, [token(energy=-99.0)] * 5)) == {Decision.COMMIT}
    assert held.latest == 99.0


async def test_what_was_compared_is_known_only_where_it_could_have_been_handed_over() -> None:
    held = ScorePolicy(WINDOW, EntropyScore(), answer(), 5.0)
    await decide(held, [token(1.0)] * 3)
    assert held.latest is None
    await decide(held, [token(1.0)])
    assert held.latest == 1.0


def test_the_learned_score_needs_a_router() -> None:
    with pytest.raises(RuntimeError, match="router"):
        make_score(SpanSettings(score="learned"), threshold=0.5, seed=0, prompt_length=1, router=None)
