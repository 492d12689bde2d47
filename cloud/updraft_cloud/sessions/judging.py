"""Judging a draft: which of its tokens stand, and which the cloud puts after them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from updraft.sampling import Sampled
from updraft_cloud.frames import End
from updraft_cloud.sessions.acceptance import AcceptanceRule
from updraft_cloud.sessions.answer import Answer
from updraft_cloud.sessions.tree import Walk

__all__ = ["Judgement", "judge"]


class Judgement(NamedTuple):
    """What became of a draft.

    Attributes:
        drawn: one for each token that was committed, with the log-probability of that token: `accepted` drafted ones,
            of which `tolerated` are not the cloud's own, and with `own` one that the cloud has put after them.
        end: whether the last of them ends the answer.
    """

    drawn: list[Sampled]
    accepted: int
    tolerated: int
    own: bool
    end: End


def judge(walk: Walk, answer: Answer, rule: AcceptanceRule) -> Judgement:
    """Walk the rows and commit: drafted tokens while the rule accepts them, then the cloud's own."""
    drawn: list[Sampled] = []
    accepted, tolerated = 0, 0
    while True:
        row = walk.row
        sampled = answer.draw(row)
        drafted = walk.drafted(sampled.token)
        own = drafted is None or not rule.accepts(drafted, sampled, row, answer.sampler)
        token = sampled.token if own or drafted is None else drafted
        if not own:
            accepted += 1
            walk.follow(token)
        if token != sampled.token:
            tolerated += 1
            sampled = replace(sampled, token=token, logprob=float(row[token]) - sampled.distribution.energy)
        drawn.append(sampled)
        answer.commit([token])
        end = answer.end_after(token)
        if own or end:
            return Judgement(drawn, accepted, tolerated, own, end)
