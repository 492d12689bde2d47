"""What an agent's answers share for escalating: budgets, the router, and a log of verdicts without a word of text."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.edge.test_agent import ask, edge_engine
from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_agent, running_cloud
from updraft.config import EdgeSettings, PriceSettings
from updraft.engine.base import Output, Run
from updraft.errors import BadModelFile, ConfigError, ModelNotFound, WrongTrunk
from updraft.modes import Origin
from updraft.routing.features import PROMPT_FEATURES, TOKEN_FEATURES
from updraft.routing.network import Network
from updraft.routing.router import Router, write_router
from updraft.routing.verdict_log import read_verdicts
from updraft.train.router import RouterRecipe, train_router
from updraft_edge.policies.escalation import Escalation

WORDS = "walrus teapot quartz"


def write_any_router(path: Path, *, edge: str, cloud: str = "hash-0-0.0-1") -> Path:
    """Finds tokens with high entropy doubtful."""
    weight = np.zeros((2, len(TOKEN_FEATURES)), np.float32)
    weight[0, TOKEN_FEATURES.index("entropy")] = 4
    tokens = Network([weight], [np.array([-6.0, -20.0], np.float32)])
    prompts = Network([np.ones((1, len(PROMPT_FEATURES)), np.float32)], [np.zeros(1, np.float32)])
    write_router(path, Router(tokens, prompts, edge=edge, cloud=cloud))
    return path


def span(**settings: Any) -> dict[str, Any]:
    return {"span": settings}


async def test_the_log_holds_features_and_verdicts_and_never_tokens_or_text(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    engine = edge_engine()
    async with running_cloud(HashEngine()) as cloud, running_agent(engine, cloud.address, verdict_log=path) as agent:
        assert agent.link is not None
        await agent.link.describe()
        completions = [(await complete(agent, ask("draft", f"{WORDS} {n}", temperature=0.0)))[1] for n in range(3)]
        await complete(agent, ask("edge", WORDS))
        await complete(agent, ask("cloud", WORDS))
    raw = path.read_text()
    assert not any(word in raw for word in WORDS.split())
    allowed = {"answer", "version", "edge", "cloud", "mode", "token_features", "prompt"}
    for line in map(json.loads, raw.splitlines()):
        assert set(line) == (allowed if "answer" in line else {"of", "place", "stood", "features"})
        for values in (line.get("features"), line.get("prompt")):
            assert values is None or all(isinstance(value, float) for value in values)
    # No list of numbers in the log is an answer's tokens.
    for completion in completions:
        assert completion.text not in raw
        assert ",".join(map(str, completion.token_ids[:3])) not in raw
    answers = read_verdicts([path])
    assert [answer.mode for answer in answers] == ["draft"] * 3
    for answer, completion in zip(answers, completions, strict=True):
        statistics = completion.statistics
        assert sum(answer.stood) == statistics.accepted
        assert answer.stood.count(False) <= statistics.cloud_tokens
        assert answer.prompt is not None
        assert (answer.edge, answer.cloud) == (engine.info.fingerprint, HashEngine().info.fingerprint)
        assert answer.places == sorted(set(answer.places))


async def test_logging_changes_no_answer(tmp_path: Path) -> None:
    async with running_cloud(HashEngine()) as cloud:
        async with running_agent(edge_engine(), cloud.address) as agent:
            plain = [(await complete(agent, ask(mode, WORDS)))[1].token_ids for mode in ("draft", "span", "edge")]
        async with running_agent(edge_engine(), cloud.address, verdict_log=tmp_path / "log") as agent:
            logged = [(await complete(agent, ask(mode, WORDS)))[1].token_ids for mode in ("draft", "span", "edge")]
    assert plain == logged


async def test_from_answers_to_a_router_and_back(tmp_path: Path) -> None:
    log, file = tmp_path / "log", tmp_path / "router.safetensors"
    async with running_cloud(HashEngine()) as cloud:
        async with running_agent(edge_engine(), cloud.address, verdict_log=log) as agent:
            assert agent.link is not None
            await agent.link.describe()
            for number in range(10):
                await complete(agent, ask("draft", f"{WORDS} {number}"))
        train_router(read_verdicts([log]), file, RouterRecipe(epochs=2))
        async with running_agent(edge_engine(), cloud.address, router=str(file)) as agent:
            learned = {"score": "learned", "window": 1, "min_stay": 1, "escalate": 0.99, "ask": 0.1}
            _, written = await complete(agent, ask("span", WORDS, extra=span(**learned)))
            assert written.statistics.round_trips > 0
            routed = await complete(agent, ask("route", WORDS, extra={"route": {"score": "learned", "threshold": 0}}))
            assert routed[1].routed == "cloud"


async def test_asking_puts_single_tokens_to_the_cloud(tmp_path: Path) -> None:
    engine = edge_engine()
    file = write_any_router(tmp_path / "r.safetensors", edge=engine.info.fingerprint)
    learned = {"score": "learned", "window": 1, "min_stay": 1, "escalate": 1.01, "ask": 0.5}
    async with running_cloud(HashEngine()) as cloud, running_agent(engine, cloud.address, router=str(file)) as agent:
        events, completion = await complete(agent, ask("span", WORDS, extra=span(**learned), max_tokens=100))
    statistics = completion.statistics
    assert 0 < statistics.drafted == statistics.round_trips
    doubted = [event for event in events if event.origin is Origin.EDGE and not event.verified]
    assert all(4 * event.entropy - 6 < 0.01 for event in doubted)  # of which the router was sure
    assert 0 < statistics.cloud_tokens < statistics.tokens


async def test_a_router_is_refused_for_another_pair(tmp_path: Path) -> None:
    stranger = write_any_router(tmp_path / "stranger.safetensors", edge="nobody")
    with pytest.raises(WrongTrunk, match="edge"):
        async with running_agent(edge_engine(), None, router=str(stranger)):
            pass
    engine = edge_engine()
    other = write_any_router(tmp_path / "other.safetensors", edge=engine.info.fingerprint, cloud="another")
    async with running_cloud(HashEngine()) as cloud, running_agent(engine, cloud.address, router=str(other)) as agent:
        assert agent.link is not None
        await agent.link.describe()
        with pytest.raises(WrongTrunk, match="cloud"):
            await complete(agent, ask("span", WORDS, extra=span(score="learned")))


async def test_without_a_router_the_learned_score_says_what_to_do() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        for extra, mode in ((span(score="learned"), "span"), ({"route": {"score": "learned"}}, "route")):
            with pytest.raises(ConfigError, match="needs a router") as caught:
                await complete(agent, ask(mode, WORDS, extra=extra))
            assert "edge.router" in caught.value.remedy


@pytest.mark.parametrize(("content", "error"), [(None, ModelNotFound), (b"junk", BadModelFile)])
def test_a_router_that_cannot_be_read_is_named_at_the_start(
    tmp_path: Path, content: bytes | None, error: type[Exception]
) -> None:
    path = tmp_path / "r.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match="safetensors"):
        Escalation(EdgeSettings(router=str(path)), HashEngine().info, None)


def test_a_log_that_cannot_be_written_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="verdict log"):
        Escalation(EdgeSettings(verdict_log=tmp_path / "file" / "log"), HashEngine().info, None)


@pytest.mark.parametrize("score", ["entropy", "two_sided", "energy", "margin", "random"])
async def test_a_budget_is_held_over_the_answers_of_an_agent(score: str) -> None:
    extra = {**span(score=score, hand_back=0.0, min_stay=4), "budget": {"share": 0.2, "window": 64}}
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        origins: list[bool] = []
        for number in range(6):
            events, _ = await complete(agent, ask("span", f"{WORDS} {number}", extra=extra, max_tokens=80))
            origins += [event.origin is Origin.CLOUD for event in events]
    sums = np.cumsum([0, *origins])
    assert max(sums[end] - sums[end - 64] for end in range(64, len(sums))) <= 0.2 * 64
    assert 0.08 < np.mean(origins) <= 0.2


async def test_without_a_threshold_or_a_budget_a_fifth_is_handed_over() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        shares = []
        for number in range(6):
            request = ask("span", f"{WORDS} {number}", extra=span(score="energy", hand_back=0.0), max_tokens=120)
            shares.append((await complete(agent, request))[1].statistics.cloud_share)
    assert 0.08 < np.mean(shares) <= 0.22


async def test_a_budget_of_money_needs_prices() -> None:
    extra = {"budget": {"cost": 0.5}}
    async with running_cloud(HashEngine()) as cloud:
        async with running_agent(edge_engine(), cloud.address) as agent:
            with pytest.raises(ConfigError, match="costs") as caught:
                await complete(agent, ask("span", WORDS, extra=extra))
        assert "edge.prices" in caught.value.remedy
        # 10 a million tokens, at most 0.002 a thousand: a fifth.
        prices = PriceSettings(cloud_output=10)
        async with running_agent(edge_engine(), cloud.address, prices=prices) as agent:
            extra = {**span(escalate=0.1, hand_back=0.0), "budget": {"cost": 0.002, "window": 64}}
            _, completion = await complete(agent, ask("span", WORDS, extra=extra, max_tokens=200))
    assert 0.08 < completion.statistics.cloud_share <= 0.25
    assert completion.statistics.cost == pytest.approx(completion.statistics.cloud_tokens * 1e-5)


class SlowEngine(HashEngine):
    """A cloud that is slower than the edge however busy the machine is."""

    def forward(self, runs: Sequence[Run]) -> list[Output]:
        time.sleep(0.01)
        return super().forward(runs)


@pytest.mark.parametrize(("token_ms", "most"), [(1e-6, 0.0), (1e6, 0.9)])
async def test_a_deadline_limits_what_the_cloud_may_write(token_ms: float, most: float) -> None:
    extra = {**span(escalate=0.1, hand_back=0.0), "budget": {"token_ms": token_ms}}
    async with running_cloud(SlowEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        await complete(agent, ask("span", WORDS, extra=extra))  # one span at most, to see what it takes
        _, completion = await complete(agent, ask("span", WORDS, extra=extra, max_tokens=100))
    assert len(completion.token_ids) == 100
    assert (completion.statistics.cloud_share == 0.0) if most == 0.0 else (completion.statistics.cloud_share > 0.5)


class BrokenEngine(HashEngine):
    """Its logits grow from some position on until their sum is not finite any more."""

    def forward(self, runs: Sequence[Run]) -> list[Output]:
        outputs = super().forward(runs)
        for run, output in zip(runs, outputs, strict=True):
            if run.position > 40 and len(output.logits):
                output.logits[:, 3] = math.nan
        return outputs


async def test_logits_that_are_not_finite_are_a_clear_error() -> None:
    engine = BrokenEngine(noise=0.8, own_seed=7)
    async with running_cloud(HashEngine()) as cloud, running_agent(engine, cloud.address) as agent:
        with pytest.raises(Exception, match="not finite"):
            await complete(agent, ask("span", WORDS, extra=span(escalate=15.0)))
