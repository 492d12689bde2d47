"""Escalation policies."""

from __future__ import annotations

from updraft.mode_settings import SpanSettings
from updraft.sampling import Distribution, Sampled
from updraft_edge.policies import Always, EntropyWindow, HandOverAll, Never
from updraft_edge.seams import Decision, HandOver

SETTINGS = SpanSettings(window=3, escalate=2.0, hand_back=1.0, min_stay=4)


def token(entropy: float) -> Sampled:
    return Sampled(1, -1.0, Distribution(0.0, entropy, 0.5))


async def test_the_plain_policies_always_say_the_same() -> None:
    for entropy in (0.0, 9.0):
        assert await Never().decide([token(entropy)]) is Decision.COMMIT
        assert await Always().decide([token(entropy)]) is Decision.VERIFY
        assert await HandOverAll().decide([]) == HandOver()


async def test_the_window_hands_over_once_its_mean_is_high_and_the_stay_is_over() -> None:
    policy = EntropyWindow(SETTINGS)
    entropies = [9.0, 0.0, 0.0, 0.0, 1.0, 4.0, 2.0]
    decisions = [await policy.decide([token(entropy)]) for entropy in entropies]
    assert decisions[:-1] == [Decision.COMMIT] * 6  # a high mean inside the stay, then means of 0, 1/3 and 5/3
    assert decisions[-1] == HandOver(1.0, 3, 4)


async def test_a_single_high_token_is_not_enough() -> None:
    policy = EntropyWindow(SETTINGS)
    decisions = [await policy.decide([token(entropy)]) for entropy in [0.0] * 5 + [5.5] + [0.0] * 5]
    assert set(decisions) == {Decision.COMMIT}


async def test_after_a_return_the_window_and_the_stay_begin_anew() -> None:
    policy = EntropyWindow(SETTINGS)
    for _ in range(4):
        last = await policy.decide([token(5.0)])
    assert isinstance(last, HandOver)
    policy.returned()
    decisions = [await policy.decide([token(5.0)]) for _ in range(4)]
    assert decisions[:3] == [Decision.COMMIT] * 3
    assert isinstance(decisions[3], HandOver)
