"""Drafting under load: when the cloud had better write, and that the text is the same either way."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_agent, running_cloud
from updraft.generation import GenerationRequest
from updraft.modes import Mode, ModeSettings
from updraft.sampling import Distribution, Sampled, SamplingParams
from updraft_edge.policies.load import WhileItCarries
from updraft_edge.seams import Decision, HandOver, Yielding
from updraft_edge.stopping.costs import Costs
from updraft_edge.stopping.predictors import Calibration, ScorePredictor, confidence
from updraft_edge.stopping.price import CloudPrice, Crowd

MEMORY_BOUND = CloudPrice(0.030, 0.0001, 1.0, 32)
COMPUTE_BOUND = CloudPrice(0.005, 0.009, 1.0, 8)
IDLE = CloudPrice(0.005, 0.009, 0.1, 8)
ALONE = CloudPrice(0.005, 0.009, 1.0, 1)


def policy(price: CloudPrice | None, *, network_s: float = 0.02) -> WhileItCarries:
    """One whose edge has learned that three of four drafted tokens stand."""
    costs, predictor = Costs(network_s=network_s), ScorePredictor(confidence, Calibration())
    for number in range(400):
        predictor.learn([drafted()], number % 4 > 0)
    if price is not None:
        costs.heed(price)
    return WhileItCarries(costs, predictor, 16)


def drafted() -> Sampled:
    return Sampled(1, -1.0, Distribution(0.0, 1.0, 0.5))


@pytest.mark.parametrize(
    ("price", "yields"), [(None, False), (ALONE, False), (IDLE, False), (MEMORY_BOUND, False), (COMPUTE_BOUND, True)]
)
async def test_who_writes(price: CloudPrice | None, yields: bool) -> None:
    made = policy(price)
    assert isinstance(made, Yielding)
    assert made.yields() is yields
    decision = await made.decide([])
    assert isinstance(decision, HandOver) is yields
    assert decision == Decision.VERIFY or yields


@pytest.mark.parametrize("own", [0.02, 0.2])
def test_edges_decide_alike_by_what_the_cloud_says_of_all(own: float) -> None:
    """Whatever this edge's link and drafts are, and whichever way the cloud's sessions had better go."""
    accepting = Crowd(acceptance=0.8, away_s=0.03, prompt=1.0)
    assert not policy(replace(MEMORY_BOUND, crowd=accepting), network_s=own).yields()
    assert policy(replace(MEMORY_BOUND, crowd=replace(accepting, acceptance=0.05)), network_s=own).yields()
    assert policy(replace(MEMORY_BOUND, crowd=replace(accepting, away_s=0.5)), network_s=own).yields() is True


async def test_what_is_drafted_is_put_to_the_cloud() -> None:
    assert await policy(COMPUTE_BOUND).decide([drafted()]) is Decision.VERIFY


@pytest.mark.parametrize(("network_s", "most"), [(0.0, 16), (0.05, 42), (0.4, 256)])
async def test_spans_are_bounded_by_the_round_trip_at_their_end(network_s: float, most: int) -> None:
    decision = await policy(COMPUTE_BOUND, network_s=network_s).decide([])
    assert isinstance(decision, HandOver)
    assert decision.most == pytest.approx(most, abs=1) and decision.threshold is None and not decision.step


def test_near_the_balance_what_is_under_way_goes_on() -> None:
    passes_s = [0.0005 * step for step in range(1, 400)]

    def turns_at(made: WhileItCarries, order: list[float]) -> float:
        """Where it changes its mind on the way."""
        begun = None
        for pass_s in order:
            made._costs.heed(CloudPrice(pass_s, 0.002, 1.0, 16))
            begun = made.yields() if begun is None else begun
            if made.yields() is not begun:
                return pass_s
        raise AssertionError("it never changes its mind")

    assert turns_at(policy(None), passes_s) > turns_at(policy(None), passes_s[::-1])


def test_a_bad_start_is_not_the_end() -> None:
    costs, predictor = Costs(network_s=0.02), ScorePredictor(confidence, Calibration())
    made = WhileItCarries(costs, predictor, 16)
    costs.heed(CloudPrice(0.030, 0.0005, 1.0, 16))
    for _ in range(4):
        predictor.learn([drafted()], 0)
    assert predictor.mean < 0.5 and not made.yields()
    for _ in range(60):
        predictor.learn([drafted()], 0)
    assert made.yields()


def request(mode: str, temperature: float, **settings: object) -> GenerationRequest:
    return GenerationRequest(
        prompt="Once upon a time",
        max_tokens=90,
        sampling=SamplingParams(temperature=temperature, seed=7),
        settings=ModeSettings.model_validate({"mode": mode, **settings}),
        ignore_end=True,
    )


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("traced", [False, True])
async def test_the_text_is_the_same_whoever_writes(
    temperature: float, traced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = itertools.cycle([COMPUTE_BOUND, COMPUTE_BOUND, IDLE, MEMORY_BOUND])

    def moody(self: Costs, price: CloudPrice) -> None:
        self.price = next(prices)

    monkeypatch.setattr(Costs, "heed", moody)
    async with running_cloud(HashEngine()) as server, running_agent(HashEngine(noise=0.5), server.address) as agent:
        _, alone = await complete(agent, request("cloud", temperature))
        agent.costs.heed(COMPUTE_BOUND)
        _, mixed = await complete(agent, replace(request("draft", temperature), trace=traced))
    assert mixed.token_ids == alone.token_ids and mixed.text == alone.text
    assert mixed.statistics.drafted and mixed.statistics.cloud_tokens > mixed.statistics.round_trips
    if mixed.trace is not None:
        kinds = {step.kind for step in mixed.trace.steps}
        assert {"hand_over", "verify"} <= kinds


@pytest.mark.parametrize("stop", [{"heed_load": False}, {"rule": "fixed"}, {"risk": 0.3}])
async def test_where_load_is_not_heeded_the_edge_drafts(stop: dict[str, object]) -> None:
    async with running_cloud(HashEngine()) as server, running_agent(HashEngine(), server.address) as agent:
        agent.costs.heed(COMPUTE_BOUND)
        _, completion = await complete(agent, request(Mode.DRAFT, 0.0, stop=stop))
    statistics = completion.statistics
    assert statistics.cloud_tokens <= statistics.round_trips
