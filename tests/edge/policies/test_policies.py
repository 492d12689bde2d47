"""Plain escalation policies."""

from __future__ import annotations

from updraft.sampling import Distribution, Sampled
from updraft_edge.policies.plain import Always, ConfidentOnly, HandOverAll, Never
from updraft_edge.seams import Decision, HandOver


async def test_the_plain_policies_always_say_the_same() -> None:
    for entropy in (0.0, 9.0):
        run = [Sampled(1, -1.0, Distribution(0.0, entropy, 0.5))]
        assert await Never().decide(run) is Decision.COMMIT
        assert await Always().decide(run) is Decision.VERIFY
        assert await ConfidentOnly().decide(run) is Decision.COMMIT
        assert await ConfidentOnly().decide([]) is Decision.VERIFY
        assert await HandOverAll().decide([]) == HandOver()
