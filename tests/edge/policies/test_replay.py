"""Policies followed through given text, token by token, as the loop of an answer would."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_agent, running_cloud
from updraft.generation import GenerationRequest
from updraft.modes import Origin, parse_settings
from updraft.sampling import Distribution, Sampled, SamplingParams
from updraft_edge.policies.replay import follow, replay_span
from updraft_edge.seams import Decision, HandOver

EDGE, CLOUD = False, True


def scores(*entropies: float) -> list[Sampled]:
    return [Sampled(place, -1.0, Distribution(1.0, entropy, 0.5, 0.1)) for place, entropy in enumerate(entropies)]


@dataclass
class Scripted:
    """Decides as told; `seen` are the tokens that it was asked about."""

    decisions: Sequence[Decision | HandOver]
    seen: list[int] = field(default_factory=list)
    taken_back: int = 0

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        self.seen += [sampled.token for sampled in run]
        return self.decisions[len(self.seen) - 1]

    def returned(self) -> None:
        self.taken_back += 1


async def test_a_token_stays_is_asked_for_or_is_handed_over_with_what_follows() -> None:
    span = HandOver(threshold=0.5, window=2, min_stay=2)
    policy = Scripted([Decision.COMMIT, Decision.VERIFY, span, Decision.COMMIT])
    committed: list[int] = []
    # After token 2 the cloud goes on with 3, 4, 5: the mean of its last two entropies is 0.5 only then.
    flags = await follow(policy, scores(*[1.0] * 7), scores(9, 9, 9, 1.0, 0.8, 0.2, 9), committed.extend)
    assert flags == [EDGE, CLOUD, EDGE, CLOUD, CLOUD, CLOUD, EDGE]
    assert policy.seen == [0, 1, 2, 6] and policy.taken_back == 1
    assert committed == list(range(7))


async def test_a_dropped_token_is_the_clouds() -> None:
    flags = await follow(Scripted([HandOver(0.5, keep=0), Decision.COMMIT]), scores(1, 1), scores(0.1, 0.1))
    assert flags == [CLOUD, EDGE]


async def test_a_span_ends_with_the_text_or_when_it_is_long_enough() -> None:
    assert await follow(Scripted([HandOver()]), scores(1, 1, 1), scores(0, 0, 0)) == [EDGE, CLOUD, CLOUD]
    flags = await follow(Scripted([HandOver(most=1), Decision.COMMIT]), scores(1, 1, 1), scores(0, 0, 0))
    assert flags == [EDGE, CLOUD, EDGE]
    assert await follow(Scripted([HandOver()]), scores(1), scores(1)) == [EDGE]
    assert await follow(Scripted([]), [], []) == []


async def test_an_answer_that_was_written_is_followed_as_it_was() -> None:
    """Where edge and cloud are one model, given text is what an answer would be, and so are the decisions."""
    span = {"window": 3, "escalate": 1.6, "hand_back": 1.5, "min_stay": 3}
    settings = parse_settings({"mode": "span", "span": span})
    request = GenerationRequest(
        prompt="hello there", max_tokens=150, settings=settings, sampling=SamplingParams(seed=5), ignore_end=True
    )
    async with running_cloud(HashEngine()) as cloud, running_agent(HashEngine(), cloud.address) as agent:
        events, completion = await complete(agent, request)
        prompt = agent.encode("hello there")
        tiers = [
            (await agent.score_branches(prompt, [completion.token_ids], settings=parse_settings({"mode": mode})))[0]
            for mode in ("edge", "cloud")
        ]
    flags = await replay_span(settings, prompt, *tiers)
    assert flags == [event.origin is Origin.CLOUD for event in events]
    assert 0 < sum(flags) < len(flags)


@pytest.mark.parametrize("share", [0.2, 0.8])
async def test_the_random_score_hands_over_about_its_share(share: float) -> None:
    span = {"score": "random", "window": 1, "min_stay": 1, "escalate": 1 - share, "hand_back": 20}
    settings = parse_settings({"mode": "span", "span": span})
    tokens = scores(*[1.0] * 2000)
    flags = await replay_span(settings, [1], tokens, tokens, seed=1)
    # Each hand-over follows an edge token and lasts one token, so a part p gives p / (1 + p).
    assert sum(flags) / 2000 == pytest.approx(share / (1 + share), abs=0.04)
    assert flags == await replay_span(settings, [1], tokens, tokens, seed=1)


async def test_how_probable_the_texts_own_token_is_tells_a_policy_nothing() -> None:
    """When it decides, the edge knows its own best token and not the one that the text goes on with."""
    seen: list[float] = []

    class Watching(Scripted):
        async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
            seen.extend(sampled.logprob for sampled in run)
            return await super().decide(run)

    for logprob in (-0.1, -20.0):
        edge = [replace(scored, logprob=logprob) for scored in scores(1.0, 2.0)]
        await follow(Watching([Decision.COMMIT] * 2), edge, scores(1.0, 2.0))
    assert seen == pytest.approx([math.log(0.5)] * 4)
