from __future__ import annotations

import numpy as np

from updraft_cloud.experts.waiting import WaitingTokens


def test_drafts_wait_until_their_pass() -> None:
    waiting = WaitingTokens()
    waiting.put([1, 2])
    waiting.put([3])
    assert waiting.tokens().tolist() == [1, 2, 3]
    waiting.begin(np.array([2, 1, 9]))
    assert waiting.tokens().tolist() == [3]


def test_a_draft_whose_session_ended_is_forgotten() -> None:
    waiting = WaitingTokens()
    waiting.put([1])
    for _ in range(4):
        assert len(waiting) == 1
        waiting.begin(np.array([7]))
    assert len(waiting) == 0


def test_what_waits_is_bounded() -> None:
    waiting = WaitingTokens()
    for _ in range(30):
        waiting.put(range(48))
    assert len(waiting) <= 512
    waiting.put(range(2000))
    assert len(waiting) == 2000  # one draft is never cut
