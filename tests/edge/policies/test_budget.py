"""Budgets: never passed over a window, and used, whatever the scores are like."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.engine import LetterTokenizer
from updraft.mode_settings import SpanSettings
from updraft.modes import Origin
from updraft.sampling import Distribution, Sampled
from updraft.token_log import TokenLog
from updraft_edge.answer import Answer
from updraft_edge.policies.budget import Budgeted, Ledger, TopShare, money, tokens_written
from updraft_edge.policies.plain import Always, HandOverAll
from updraft_edge.policies.scores import EntropyScore
from updraft_edge.policies.span import ScorePolicy
from updraft_edge.seams import Decision, EscalationPolicy, HandOver

STAY = 10


def token(entropy: float = 1.0) -> Sampled:
    return Sampled(1, -1.0, Distribution(0.0, entropy, 0.5))


def new_answer(most: int = 10_000) -> Answer:
    return Answer(TokenLog([1]), LetterTokenizer(64), ends=frozenset(), stop=(), most=most, started=0.0)


def spans(answer: Answer, settings: SpanSettings) -> ScorePolicy:
    return ScorePolicy(settings, EntropyScore(), answer, None)


async def simulate(
    scores: Sequence[float],
    make: Callable[[Answer], EscalationPolicy],
    ledger: Ledger,
    *,
    wants: int = 17,
    length: int = 120,
    least: int = STAY,
    spend: float = 0.0,
) -> list[bool]:
    """Which tokens the cloud wrote, where it would write `wants` a hand-over, over answers of `length` tokens."""
    written: list[bool] = []
    shared = TopShare()
    stream = iter(scores)
    answer = new_answer(length)
    policy = Budgeted(make(answer), ledger, shared, answer, least=least)
    for score in stream:
        if answer.done():
            answer = new_answer(length)
            policy = Budgeted(make(answer), ledger, shared, answer, least=least)
        decision = await policy.decide([token(score)])
        match decision:
            case HandOver():
                answer.commit([token(score)][: decision.keep], Origin.EDGE, verified=False)
                count = min(wants, decision.most or wants, answer.room)
                answer.commit([token()] * count, Origin.CLOUD, verified=True)
                answer.statistics.cost += spend * count
                written += [False] * len([token(score)][: decision.keep]) + [True] * count
                if not answer.done():
                    policy.returned()
            case Decision.VERIFY:
                answer.commit([token()], Origin.CLOUD, verified=True)
                answer.statistics.cost += spend
                written.append(True)
            case _:
                answer.commit([token(score)], Origin.EDGE, verified=False)
                written.append(False)
    return written


def most_in_window(written: Sequence[bool], window: int) -> int:
    sums = np.cumsum([0, *written])
    return int(max(sums[end] - sums[max(0, end - window)] for end in range(1, len(sums))))


streams = st.sampled_from(["uniform", "rising", "falling", "bursts", "constant", "walk"])


def stream(kind: str, count: int, seed: int) -> list[float]:
    random = np.random.default_rng(seed)
    noise = random.random(count)
    made = {
        "uniform": noise,
        "rising": noise + np.linspace(0, 5, count),
        "falling": noise + np.linspace(5, 0, count),
        "bursts": noise + 3 * (np.arange(count) // 150 % 2),
        "constant": np.ones(count),
        "walk": np.abs(np.cumsum(random.normal(size=count)) / 10),
    }
    return [float(value) for value in made[kind]]


@settings(max_examples=25, deadline=None)
@given(kind=streams, seed=st.integers(0, 99), share=st.floats(0, 1), window=st.sampled_from([32, 100, 256]))
async def test_no_window_is_ever_overdrawn(kind: str, seed: int, share: float, window: int) -> None:
    ledger = Ledger(share, window)
    written = await simulate(stream(kind, 800, seed), lambda answer: spans(answer, SpanSettings(min_stay=STAY)), ledger)
    assert most_in_window(written, window) <= share * window + 1e-6
    # While the first window fills, too: one short span at most before it is earned.
    for end in range(1, window):
        assert sum(written[:end]) <= share * end + STAY


@settings(max_examples=15, deadline=None)
@given(kind=streams, seed=st.integers(0, 99), share=st.floats(0, 1))
async def test_a_policy_that_always_asks_is_held_too(kind: str, seed: int, share: float) -> None:
    policies: list[EscalationPolicy] = [Always(), HandOverAll()]
    for policy in policies:
        written = await simulate(stream(kind, 400, seed), lambda answer, same=policy: same, Ledger(share, 64))  # type: ignore[misc]
        assert most_in_window(written, 64) <= share * 64 + 1e-6


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
@pytest.mark.parametrize(("kind", "least"), [("uniform", 0.8), ("bursts", 0.5), ("walk", 0.5)])
async def test_the_budget_is_used(kind: str, least: float, share: float) -> None:
    policy = SpanSettings(min_stay=STAY)
    shares = []
    for seed in range(3):
        scores, ledger = stream(kind, 3000, seed), Ledger(share, 256)
        written = await simulate(scores, lambda answer: spans(answer, policy), ledger, length=200)
        shares.append(float(np.mean(written[500:])))
    assert least * share <= np.mean(shares) <= share + 1e-3


async def test_the_threshold_finds_the_high_scores() -> None:
    """Given a share, the tokens that are handed over score higher than the others."""
    scores = stream("uniform", 4000, 1)
    ledger, answer = Ledger(0.2, 256), new_answer(100_000)
    policy = Budgeted(spans(answer, SpanSettings(min_stay=1, window=1)), ledger, TopShare(), answer, least=1)
    handed: list[float] = []
    kept: list[float] = []
    for score in scores:
        decision = await policy.decide([token(score)])
        answer.commit([token(score)], Origin.EDGE, verified=False)
        if isinstance(decision, HandOver):
            handed.append(score)
            answer.commit([token()], Origin.CLOUD, verified=True)
            policy.returned()
        else:
            kept.append(score)
    assert np.mean(handed[20:]) > 0.8
    assert len(handed) / (len(scores) + len(handed)) == pytest.approx(0.2, abs=0.03)


async def test_a_threshold_that_was_asked_for_is_never_undercut() -> None:
    answer, ledger = new_answer(), Ledger(0.5, 100)
    policy = Budgeted(spans(answer, SpanSettings(min_stay=1, window=1)), ledger, TopShare(), answer, floor=2.0)
    for score in stream("uniform", 200, 0):
        assert await policy.decide([token(score)]) is Decision.COMMIT
        answer.commit([token(score)], Origin.EDGE, verified=False)
    assert isinstance(await policy.decide([token(2.5)]), HandOver)


async def test_money_is_held() -> None:
    """At 0.002 a cloud token and 0.1 per 1000 tokens, one token in twenty may be the cloud's."""
    ledger = Ledger(0.1 / 1000, 256, money, unit=0.002)
    policy = SpanSettings(min_stay=STAY)
    written = await simulate(stream("uniform", 3000, 2), lambda answer: spans(answer, policy), ledger, spend=0.002)
    assert most_in_window(written, 256) <= 0.05 * 256
    assert 0.03 <= np.mean(written) <= 0.05


async def test_a_price_that_was_underestimated_is_learned() -> None:
    ledger = Ledger(0.1 / 1000, 256, money, unit=0.0001)
    policy = SpanSettings(min_stay=STAY)
    written = await simulate(stream("uniform", 3000, 2), lambda answer: spans(answer, policy), ledger, spend=0.002)
    assert 0.03 <= np.mean(written[500:]) <= 0.052


def test_time_counts_the_edges_own() -> None:
    """20 ms a token allowed, 10 ms on the edge, 50 ms in the cloud: a quarter may be the cloud's."""
    ledger = Ledger(0.020, 100, None, unit=0.05)
    ledger.add(10, 0, 0.1)
    ledger.add(5, 5, 0.25)
    assert ledger.share == pytest.approx(0.25)
    assert ledger.used == pytest.approx(0.2 / 0.15)
    assert ledger.left(5) == pytest.approx((0.01 * 15 - 0.2) / 0.04 + 5)


def test_a_deadline_that_the_edge_alone_misses_leaves_nothing_and_says_what_can_be_met(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = Ledger(0.005, 100, None, unit=0.05)
    for _ in range(3):
        ledger.add(10, 0, 0.1)
    assert [record.message for record in caplog.records if "0.01" in record.message] == [caplog.messages[0]]
    assert ledger.share == 0
    assert ledger.left(5) < 5


def test_a_cloud_that_is_cheaper_than_the_edge_is_not_limited() -> None:
    ledger = Ledger(0.005, 100, None, unit=0.05)
    ledger.add(10, 0, 0.1)
    ledger.add(10, 10, 0.05)
    assert (ledger.share, ledger.left(5)) == (1.0, float("inf"))


async def test_answers_at_once_share_what_is_left() -> None:
    ledger, scores = Ledger(0.2, 100), TopShare()
    ledger.add(100, 0, 0.0)
    first, second = new_answer(), new_answer()
    one = Budgeted(HandOverAll(), ledger, scores, first, least=4)
    other = Budgeted(HandOverAll(), ledger, scores, second, least=4)
    assert await one.decide([]) == HandOver(most=20)
    assert await other.decide([]) is Decision.COMMIT
    first.commit([token()] * 12, Origin.CLOUD, verified=True)
    one.returned()
    await one.decide([])
    assert ledger.left(4) < 4


async def test_the_last_tokens_of_an_answer_count_after_it_is_gone() -> None:
    ledger = Ledger(0.2, 100, tokens_written)
    answer = new_answer()
    policy = Budgeted(HandOverAll(), ledger, TopShare(), answer, least=10)
    assert isinstance(await policy.decide([]), HandOver)
    answer.commit([token()] * 10, Origin.CLOUD, verified=True)
    del policy
    gc.collect()
    ledger.sync()
    assert ledger.used == pytest.approx(5)
    ledger.sync()
    assert ledger.tokens == 10
