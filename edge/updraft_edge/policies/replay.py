"""A policy followed through given text: which of its tokens would the cloud have judged in place of the edge?"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from updraft.errors import ConfigError
from updraft.modes import ModeSettings
from updraft.routing.router import Router
from updraft.sampling import Sampled
from updraft.token_log import TokenLog
from updraft_edge.answer import Answer
from updraft_edge.policies.scores import DEFAULT_THRESHOLDS, make_score
from updraft_edge.policies.span import ScorePolicy
from updraft_edge.seams import Decision, EscalationPolicy, HandOver

__all__ = ["follow", "replay_span"]


class _GivenText:
    """As much of an answer as a policy of scores looks at."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self.log = TokenLog(prompt)


async def replay_span(
    settings: ModeSettings,
    prompt: Sequence[int],
    edge: Sequence[Sampled],
    cloud: Sequence[Sampled],
    *,
    seed: int = 0,
    router: Callable[[], Router] | None = None,
) -> list[bool]:
    """Which tokens after the prompt the cloud would judge in mode `span`; a budget is not held.

    Args:
        edge, cloud: what each tier says of the same tokens; the edge's with margin and mass.
        router: gives the router of the score `learned`.

    Raises:
        ConfigError: there is no router for the score `learned`.
    """
    span = settings.span
    if span.score == "learned" and router is None:
        raise ConfigError("The score learned needs a router.")
    threshold = DEFAULT_THRESHOLDS[span.score] if span.escalate is None else span.escalate
    given = _GivenText(prompt)
    score = make_score(
        span,
        threshold=threshold,
        seed=seed ^ given.log.hash,  # as for an answer
        prompt_length=len(prompt),
        router=router() if span.score == "learned" and router is not None else None,
    )
    policy = ScorePolicy(span, score, cast("Answer", given), threshold)
    return await follow(policy, edge, cloud, given.log.extend)


async def follow(
    policy: EscalationPolicy,
    edge: Sequence[Sampled],
    cloud: Sequence[Sampled],
    commit: Callable[[Sequence[int]], None] = lambda tokens: None,
) -> list[bool]:
    """Whether each token is the cloud's, deciding token by token as the loop of an answer does.

    The text is given, so a token that is dropped or verified is the cloud's to judge, and the next is the text's own.

    Args:
        commit: told of the tokens, in order.
    """
    flags: list[bool] = []
    while len(flags) < len(edge):
        place = len(flags)
        decision = await policy.decide([_drafted(edge[place])])
        if isinstance(decision, HandOver):
            own = decision.keep != 0  # the token stands with the edge unless it is dropped
            flags += [False] * own + [True] * _span(decision, cloud[place + own :])
        else:
            flags.append(decision is Decision.VERIFY)
        commit([scored.token for scored in edge[place : len(flags)]])
        if isinstance(decision, HandOver):
            policy.returned()
    return flags


def _drafted(scored: Sampled) -> Sampled:
    """The token that the edge would have drafted here, greedily: how probable it finds the text's own would tell a
    policy what the edge cannot know when it decides."""
    return replace(scored, logprob=math.log(max(scored.distribution.top_probability, 1e-30)))


def _span(condition: HandOver, cloud: Sequence[Sampled]) -> int:
    """How many tokens the cloud would go on with until the hand-back condition holds."""
    recent: deque[float] = deque(maxlen=max(1, condition.window))
    most = len(cloud) if condition.most is None else min(condition.most, len(cloud))
    for number, scored in enumerate(cloud[:most], start=1):
        recent.append(scored.distribution.entropy)
        settled = condition.threshold is not None and sum(recent) / len(recent) <= condition.threshold
        if settled and number >= condition.min_stay:
            return number
    return most
