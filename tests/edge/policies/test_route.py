"""Mode `route`: one tier writes the whole answer, and nothing is shown or sent before it is known which."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.edge.test_agent import ask, edge_engine
from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_agent, running_cloud, until
from updraft.engine.base import Output, Run
from updraft.engine.loop import EngineLoop
from updraft.generation import Completion
from updraft.modes import Origin
from updraft.sampling import Distribution, Sampled, Sampler, SamplingParams, measure
from updraft_edge.drafters import ModelDrafter
from updraft_edge.http.extension import answer_label
from updraft_edge.policies.prompt_rows import PromptReadingDrafter
from updraft_edge.policies.route import AnswerEnergy, RoutePolicy, mean_energy, mean_entropy
from updraft_edge.seams import Decision, HandOver
from updraft_edge.stopping.costs import Costs

PROMPT = "a prompt that is long enough to be cut into several passes of the engine " * 2
SCORES = ["prompt_energy", "prompt_entropy", "answer_energy", "consistency", "random"]


def route(score: str, threshold: float | None, **more: Any) -> dict[str, Any]:
    return {"route": {"score": score, "threshold": threshold, **more}}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
async def test_each_tier_writes_what_it_would_write_alone(score: str, temperature: float) -> None:
    engine = edge_engine(sequences=8)
    async with running_cloud(HashEngine()) as cloud, running_agent(engine, cloud.address) as agent:
        _, small = await complete(agent, ask("edge", PROMPT, temperature=temperature))
        _, large = await complete(agent, ask("cloud", PROMPT, temperature=temperature))
        kept = await complete(agent, ask("route", PROMPT, temperature=temperature, extra=route(score, 1000)))
        given = await complete(agent, ask("route", PROMPT, temperature=temperature, extra=route(score, -1000)))
        await until(lambda: engine.open_sequences == 0)
    assert given[1].token_ids == large.token_ids
    assert (given[1].routed, {event.origin for event in given[0]}) == ("cloud", {Origin.CLOUD})
    assert (kept[1].routed, {event.origin for event in kept[0]}) == ("edge", {Origin.EDGE})
    if score != "consistency":  # where another answer may win the vote
        assert kept[1].token_ids == small.token_ids
    assert kept[1].mode == given[1].mode == "route"
    assert small.routed is None
    assert answer_label(given[1])["routed"] == "cloud"
    assert "routed" not in answer_label(small)


@pytest.mark.parametrize("score", SCORES)
async def test_an_answer_of_the_edge_sends_nothing(score: str) -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        _, kept = await complete(agent, ask("route", PROMPT, extra=route(score, 1000)))
    assert (kept.statistics.bytes_up, kept.statistics.round_trips) == (0, 0)


@pytest.mark.parametrize("score", SCORES)
async def test_a_cloud_that_is_away_leaves_the_answer_to_the_edge(score: str) -> None:
    link = {"reconnect_attempts": 1, "connect_timeout_s": 0.2}
    async with running_agent(edge_engine(), "127.0.0.1:9", link=link) as agent:
        _, alone = await complete(agent, ask("edge", PROMPT))
        events, given = await complete(agent, ask("route", PROMPT, extra=route(score, -1000)))
    assert (given.degraded, given.routed) == (True, "edge")
    assert given.token_ids == alone.token_ids == [event.token for event in events]


async def test_an_undecided_answer_is_not_streamed() -> None:
    """The edge writes all of it before the first event; then the cloud's own text comes, and none of the edge's."""
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        request = ask("route", PROMPT, extra=route("answer_energy", -1000, window=16))
        async for event in agent.generate(request):
            if not isinstance(event, Completion):
                assert event.origin is Origin.CLOUD


async def test_a_bad_answer_is_given_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = edge_engine()
    forward = engine.forward

    def slowly(runs: Sequence[Run]) -> list[Output]:
        time.sleep(0.002)  # as a model would be: the score is looked at while it writes
        return forward(runs)

    monkeypatch.setattr(engine, "forward", slowly)
    async with running_cloud(HashEngine()) as cloud, running_agent(engine, cloud.address) as agent:
        before = engine.forwards
        request = ask("route", PROMPT, max_tokens=300, extra=route("answer_energy", -1000, window=8))
        _, given = await complete(agent, request)
        assert given.routed == "cloud"
        assert engine.forwards - before < 250


async def test_random_sends_a_share_that_depends_on_prompt_and_seed() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        routed = []
        for number in range(60):
            request = ask("route", f"prompt {number}", max_tokens=2, extra=route("random", 0.5))
            routed.append((await complete(agent, request))[1].routed)
            assert (await complete(agent, request))[1].routed == routed[-1]
    assert 0.25 < np.mean([tier == "cloud" for tier in routed]) < 0.75


async def test_without_a_threshold_the_share_comes_out() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        extra = {**route("prompt_entropy", None), "budget": {"share": 0.3}}
        routed = [
            (await complete(agent, ask("route", f"prompt {number}", max_tokens=2, extra=extra)))[1].routed
            for number in range(160)
        ]
    assert "cloud" not in routed[:16]  # until enough scores are seen
    assert 0.15 <= np.mean([tier == "cloud" for tier in routed[16:]]) <= 0.4


async def test_samples_without_a_place_are_left_out() -> None:
    engine = edge_engine(sequences=2)
    async with running_cloud(HashEngine()) as cloud, running_agent(engine, cloud.address) as agent:
        _, kept = await complete(agent, ask("route", PROMPT, extra=route("consistency", 1.01, samples=8)))
        assert len(kept.token_ids) == 48
        await until(lambda: engine.open_sequences == 0)


async def test_prompt_rows_are_the_prompts_and_change_no_token() -> None:
    prompt = list(range(1, 60)) * 3
    sampling = SamplingParams(temperature=0.8, seed=4)
    options: dict[str, Any] = {"ends": frozenset(), "ahead": 8, "most": 400, "costs": Costs()}
    loop = EngineLoop(HashEngine())
    loop.start()
    plain = ModelDrafter(loop, prompt, Sampler(sampling, prompt), **options)
    reading = PromptReadingDrafter(loop, prompt, Sampler(sampling, prompt), window=100, **options)
    for _ in range(6):
        assert await reading.propose() == await plain.propose()
    engine = HashEngine()
    expected = [measure(engine._row(tuple(prompt[:end]))) for end in range(len(prompt) - 99, len(prompt) + 1)]
    assert list(reading.rows) == expected
    plain.close()
    reading.close()
    loop.stop()


async def test_a_prompt_shorter_than_the_window_is_read_whole() -> None:
    loop = EngineLoop(HashEngine())
    loop.start()
    drafter = PromptReadingDrafter(
        loop, [3, 4, 5], Sampler(SamplingParams(seed=0), [3, 4, 5]), window=32,
        ends=frozenset(), ahead=4, most=50, costs=Costs(),
    )  # fmt: skip
    await drafter.propose()
    assert len(drafter.rows) == 3
    drafter.close()
    loop.stop()


def test_means_by_hand() -> None:
    rows = [Distribution(10.0, 1.0, 0.5), Distribution(14.0, 2.0, 0.5)]
    assert (mean_energy(rows), mean_entropy(rows)) == (-12.0, 1.5)
    assert math.isnan(mean_energy([]))
    assert math.isnan(mean_entropy([]))


def drafted(energies: list[float]) -> list[Sampled]:
    return [Sampled(1, -1.0, Distribution(energy, 1.0, 0.5)) for energy in energies]


async def test_the_answers_score_is_its_worst_window() -> None:
    energy = AnswerEnergy(2, lambda: None, lambda: False, lambda: True)
    run = drafted([20.0, 10.0, 12.0, 30.0])
    assert not any(energy.ends(run[: end + 1]) for end in range(4))
    assert await energy.score() == -11.0


async def test_a_short_answers_score_is_its_mean() -> None:
    energy = AnswerEnergy(8, lambda: None, lambda: False, lambda: True)
    run = drafted([20.0, 10.0])
    assert not any(energy.ends(run[: end + 1]) for end in range(2))
    assert await energy.score() == -15.0


async def test_a_running_score_ends_the_run_where_it_is_bad_or_not_a_number() -> None:
    energy = AnswerEnergy(2, lambda: -12.0, lambda: False, lambda: True)
    run = drafted([20.0, 10.0, 12.0])
    assert [energy.ends(run[: end + 1]) for end in range(3)] == [False, False, True]
    broken = AnswerEnergy(1, lambda: -12.0, lambda: False, lambda: True)
    assert broken.ends(drafted([math.nan]))
    assert math.isnan(await broken.score())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
async def test_a_score_that_is_not_finite_goes_to_the_cloud(bad: float) -> None:
    async def score() -> float:
        return bad

    policy = RoutePolicy(score, None)
    assert await policy.decide([]) == HandOver(keep=0)
    assert await policy.decide([]) is Decision.COMMIT  # it was decided, and the edge goes on if the cloud is away
