"""Mode `solve` across real gRPC: the edge votes, a strategy works on in the cloud, and nothing depends on luck."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from bench.relay import Relay
from tests.edge.test_agent import edge_engine
from tests.edge.test_faults import free_port, linked, relay_to
from tests.fakes.byte_engine import byte_engine
from tests.fakes.engine import HashEngine
from tests.fakes.solving import JudgedSamples, LetterVerifier
from tests.fakes.tiers import complete, idle, running_agent, running_cloud, until
from updraft.config import LimitSettings, PriceSettings, RulesSettings, StrategySettings
from updraft.errors import InvalidRequest, TokenizerMismatch, UnknownName
from updraft.generation import ChatMessage, Completion, GenerationRequest, TokenEvent
from updraft.modes import Origin, parse_settings
from updraft.sampling import SamplingParams
from updraft.solution import ProgressEvent
from updraft.strategies import STRATEGIES
from updraft.v1 import collaboration_pb2 as pb
from updraft.verifiers import VERIFIERS
from updraft_cloud.server import CloudServer
from updraft_edge.agent import Agent

ALWAYS = {"effort": "low", "solve": {"threshold": 1.0}}
ALONE = {"effort": "low", "solve": {"threshold": 0.0}}
CLOUD_ONLY = {"effort": "low", "solve": {"edge_samples": 0}}


def ask(settings: dict[str, Any], prompt: str = "hello there", **changes: Any) -> GenerationRequest:
    fields: dict[str, Any] = {
        "prompt": prompt,
        "sampling": SamplingParams(temperature=0.9, seed=5),
        "max_tokens": 30,
        "settings": parse_settings(settings),
    }
    return GenerationRequest(**(fields | changes))


async def followed(agent: Agent, request: GenerationRequest) -> tuple[list[ProgressEvent], Completion]:
    progress, completion = [], None
    async for event in agent.follow(request):
        if isinstance(event, ProgressEvent):
            progress.append(event)
        elif isinstance(event, Completion):
            completion = event
    assert completion is not None
    return progress, completion


async def test_where_the_vote_is_thin_the_cloud_works_on_with_the_edges_answers() -> None:
    engine = edge_engine()
    async with running_cloud(HashEngine()) as cloud, running_agent(engine, cloud.address) as agent:
        progress, completion = await followed(agent, ask(ALWAYS, progress=True, alternatives=True))
        solution = completion.solution
        assert solution is not None and completion.mode == "solve" and not completion.degraded
        assert solution.strategy == "auto" and solution.verified is None
        assert solution.compute.samples == 3 + 4 and solution.compute.edge_tokens > 0 < solution.compute.cloud_tokens
        assert {found.origin for found in solution.alternatives} == {"edge", "cloud"}
        assert sum(found.samples for found in solution.alternatives) == 7 - solution.unparsed
        assert solution.alternatives[0].token_ids == tuple(completion.token_ids)
        kinds = [(event.origin, event.kind) for event in progress]
        edge_side, cloud_side = [(Origin.EDGE, "sample")] * 3, [(Origin.CLOUD, "sample")] * 2
        # The score between is how easy the cloud thinks the prompt is, from its own first answers.
        cloud_all = [*cloud_side, (Origin.CLOUD, "score"), *cloud_side]
        assert kinds[:9] == [*edge_side, (Origin.EDGE, "answer"), *cloud_all]
        assert {event.kind for event in progress[9:]} <= {"answer"}
        statistics = completion.statistics
        assert statistics.cloud_positions == solution.compute.cloud_tokens and statistics.round_trips == 1
        await until(lambda: idle(cloud) and engine.open_sequences == 0)


async def test_where_the_vote_is_clear_nothing_leaves_the_device() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        events, completion = await complete(agent, ask(ALONE, alternatives=True))
        assert completion.statistics.bytes_up == 0 and not completion.degraded
        assert {event.origin for event in events} == {Origin.EDGE}
        solution = completion.solution
        assert solution is not None and solution.strategy == "vote" and solution.compute.cloud_tokens == 0
        assert solution.alternatives[0].weight == pytest.approx(solution.confidence)


async def test_an_edge_answer_that_wins_is_the_edges_and_verified() -> None:
    agreeing = {"effort": "low", "solve": {"threshold": 1.0, "edge_samples": 8}, "budget": {"samples": 1}}
    small = HashEngine(noise=0.0, sequences=8)  # the cloud's own answers
    async with running_cloud(HashEngine()) as cloud, running_agent(small, cloud.address) as agent:
        request = ask(agreeing, sampling=SamplingParams(temperature=0.9, seed=5, logit_bias={63: 8.0}))
        events, completion = await complete(agent, request)
        assert completion.statistics.bytes_up > 0
        assert all(event.verified and event.origin is Origin.EDGE for event in events)
        assert all(math.isfinite(event.entropy) for event in events)


async def test_a_seed_makes_the_answer_and_all_that_led_to_it() -> None:
    found = []
    for sequences in (3, 8):
        large = HashEngine(sequences=sequences)
        async with running_cloud(large) as cloud, running_agent(edge_engine(), cloud.address) as agent:
            for _ in range(2):
                progress, completion = await followed(agent, ask(ALWAYS, progress=True, alternatives=True))
                solution = completion.solution
                assert solution is not None
                told = [(event.kind, event.origin, event.branch, event.tokens) for event in progress]
                found.append((completion.token_ids, solution.confidence, solution.alternatives, told))
    assert all(one == found[0] for one in found)


async def test_without_edge_samples_the_cloud_writes_what_its_strategy_finds() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        for settings in (CLOUD_ONLY, {"effort": "none", "mode": "solve"}):
            events, _ = await complete(agent, ask(settings, logprobs=True, top_logprobs=2))
            assert {event.origin for event in events} == {Origin.CLOUD}
            assert all(len(event.top) == 2 and math.isfinite(event.energy) for event in events)
        one = ask({"effort": "none", "mode": "solve"})
        alone = (await complete(agent, ask({"mode": "cloud"})))[1]
        assert (await complete(agent, one))[1].token_ids == alone.token_ids  # one sample is the plain answer


@pytest.mark.parametrize("settings", [ALWAYS, CLOUD_ONLY])
async def test_with_the_cloud_away_the_edge_votes_alone_and_says_so(settings: dict[str, Any]) -> None:
    engine = edge_engine()
    link = {"connect_timeout_s": 0.2, "reconnect_attempts": 1, "breaker_failures": 1}
    async with running_agent(engine, f"127.0.0.1:{free_port()}", link=link) as agent:
        for _ in range(2):  # the second time the breaker is open
            _, completion = await complete(agent, ask(settings))
            assert completion.degraded and completion.degraded_reason == "cloud_unavailable" and completion.text
        voted = (await complete(agent, ask({"effort": "low", "local_only": True})))[1]
        if settings is ALWAYS:
            assert completion.solution == voted.solution and completion.token_ids == voted.token_ids
    assert engine.open_sequences == 0


async def test_local_only_the_edge_votes_and_is_not_degraded() -> None:
    async with running_agent(edge_engine(), None) as agent:
        _, completion = await complete(agent, ask({"effort": "high"}))
        assert not completion.degraded and completion.mode == "solve"
        assert completion.solution is not None and completion.solution.strategy == "vote"
        assert completion.solution.compute.samples == 4


@pytest.mark.parametrize("seed", range(4))
async def test_a_call_that_is_cut_is_made_again_and_gives_the_same(seed: int) -> None:
    request = ask(ALWAYS, progress=True, max_tokens=100)
    async with running_cloud(HashEngine()) as cloud:
        async with running_agent(edge_engine(), cloud.address) as near:
            calm, expected = await followed(near, request)
        link = {"reconnect_attempts": 20, "breaker_failures": 100}
        async with relay_to(cloud.address) as relay, running_agent(edge_engine(), relay.address, link=link) as far:
            cutting = asyncio.create_task(_cuts(relay, seed))
            progress, completion = await followed(far, request)
            cutting.cancel()
        assert not completion.degraded and completion.token_ids == expected.token_ids
        assert [event.branch for event in progress] == [event.branch for event in calm]
        await until(lambda: idle(cloud))


async def _cuts(relay: Relay, seed: int) -> None:
    for number in range(3):
        await asyncio.sleep(0.01 * (1 + (seed + number) % 4))
        relay.cut()


async def test_an_engine_that_dies_in_between_changes_nothing() -> None:
    request = ask(ALWAYS, max_tokens=100)
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        _, expected = await complete(agent, request)
        answering = asyncio.create_task(complete(agent, request))
        await until(lambda: cloud.service.active == 1 or answering.done())
        cloud.service.lost()
        _, completion = await answering
        assert completion.token_ids == expected.token_ids and not completion.degraded
        await until(lambda: idle(cloud))


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.03, 0.08])
async def test_a_reader_that_goes_frees_everything_on_both_tiers(moment: float) -> None:
    engine = edge_engine()
    async with running_cloud(HashEngine(sequences=4)) as cloud, running_agent(engine, cloud.address) as agent:
        answering = asyncio.create_task(followed(agent, ask(ALWAYS, max_tokens=200, progress=True)))
        await asyncio.sleep(moment)
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        await until(lambda: idle(cloud) and engine.open_sequences == 0)
        assert (await complete(agent, ask(ALWAYS)))[1].solution is not None


async def test_stop_strings_and_lengths_end_a_solved_answer_like_any_other() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        _, whole = await complete(agent, ask(CLOUD_ONLY, sampling=SamplingParams(seed=3, logit_bias={63: -90.0})))
        assert whole.finish_reason == "length" and len(whole.token_ids) == 30
        stop = whole.text[10:12]
        biased = SamplingParams(seed=3, logit_bias={63: -90.0})
        _, cut = await complete(agent, ask(CLOUD_ONLY, sampling=biased, stop=[stop]))
        assert cut.text == whole.text[: whole.text.index(stop)] and cut.finish_reason == "stop"


async def test_a_cloud_that_knows_no_strategies_is_like_none() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        assert agent.link is not None
        old = pb.DescribeResponse(model="old", tokenizer_hash="letters")

        async def describe() -> pb.DescribeResponse:
            return old

        agent.link.cloud, agent.link.describe = old, describe  # type: ignore[method-assign]
        _, completion = await complete(agent, ask(ALWAYS))
        assert completion.degraded and completion.solution is not None and linked(agent)()


async def test_what_an_effort_chose_is_cut_to_the_clouds_limits_and_what_was_asked_is_refused() -> None:
    limits = StrategySettings(max_samples=2, max_tokens=40)
    async with (
        running_cloud(HashEngine(), strategies=limits) as cloud,
        running_agent(edge_engine(), cloud.address) as a,
    ):
        _, completion = await complete(a, ask({"effort": "max", "solve": {"edge_samples": 0}}))
        assert completion.solution is not None and completion.solution.compute.samples == 2
        assert completion.solution.compute.cloud_tokens <= 40
        with pytest.raises(InvalidRequest, match=r"budget\.samples is 3; this cloud allows 2"):
            await complete(a, ask({"budget": {"samples": 3}, **CLOUD_ONLY}))


@pytest.mark.parametrize(
    ("settings", "error", "names"),
    [
        ({"strategy": "guess"}, UnknownName, "guess"),
        ({"strategy": {"name": "self-consistency", "width": 1}}, InvalidRequest, "width"),
        ({"effort": "huge"}, UnknownName, "huge"),
        ({"effort": "low", "budget": {"tokens": 0}}, InvalidRequest, "budget.tokens"),
        ({"effort": "low", "budget": {"samples": 2000}}, InvalidRequest, "budget.samples"),
        ({"effort": "low", "budget": {"seconds": -1}}, InvalidRequest, "budget.seconds"),
        ({"effort": "low", "mode": "draft"}, InvalidRequest, "effort"),
        ({"effort": "low", "solve": {"threshold": 2}}, InvalidRequest, "threshold"),
        ({"effort": "low", "verifier": {"pattern": "x"}}, InvalidRequest, "verifier"),
        ({"effort": "low", "verifier": {"kind": "x" * 20_000}}, InvalidRequest, "verifier"),
    ],
)
def test_wrong_settings_are_refused_by_name_before_anything_is_sent(
    settings: dict[str, Any], error: type[Exception], names: str
) -> None:
    with pytest.raises(error, match=names) as caught:
        parse_settings(settings)
    assert str(getattr(caught.value, "param", "")).startswith("updraft.")


async def test_a_verifier_that_the_cloud_lacks_and_an_ignored_end_are_refused() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        with pytest.raises(UnknownName, match="oracle"):
            await complete(agent, ask({**ALWAYS, "verifier": "oracle"}))
        with pytest.raises(InvalidRequest, match="ignore_end"):
            await complete(agent, ask(ALWAYS, ignore_end=True))
    async with running_cloud(HashEngine(tokenizer_hash="others")) as cloud:
        async with running_agent(edge_engine(), cloud.address) as agent:
            with pytest.raises(TokenizerMismatch):
                await complete(agent, ask(ALWAYS))


async def test_a_verifier_passes_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "judged", JudgedSamples)
    monkeypatch.setitem(VERIFIERS, "letter", LetterVerifier)
    settings = {"strategy": "judged", "verifier": {"kind": "letter", "letter": ""}, "solve": {"edge_samples": 0}}
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        _, completion = await complete(agent, ask(settings))
        assert completion.solution is not None and completion.solution.verified is True
        assert completion.solution.compute.verifier_calls == 8


SECRET = "mail bob@example.org now"


async def test_a_secret_stays_on_the_device_and_the_edge_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VERIFIERS, "letter", LetterVerifier)
    rules, small = RulesSettings(keep_local=("emails",)), byte_engine(noise=0.8)
    async with running_cloud(byte_engine()) as cloud, running_agent(small, cloud.address, rules=rules) as agent:
        _, open_one = await complete(agent, ask(ALWAYS))
        assert open_one.withheld is None and open_one.statistics.bytes_up > 0
        _, completion = await complete(agent, ask(ALWAYS, SECRET))
        assert completion.withheld == "emails" and completion.statistics.bytes_up == 0
        assert completion.solution is not None and completion.solution.strategy == "vote"
        _, hidden = await complete(agent, ask({**ALWAYS, "verifier": {"kind": "letter", "letter": SECRET}}))
        assert hidden.withheld == "emails" and hidden.statistics.bytes_up == 0


async def test_an_edge_answer_with_a_secret_votes_only_here() -> None:
    asked: list[pb.SolveRequest] = []
    rules, small = RulesSettings(keep_local=(), patterns=("[A-Z]",)), byte_engine(noise=0.8)
    async with running_cloud(byte_engine()) as cloud, running_agent(small, cloud.address, rules=rules) as agent:
        kept_as(asked, cloud)
        for seed in range(8):
            request = ask(ALWAYS, sampling=SamplingParams(temperature=1.0, seed=seed), max_tokens=12)
            await complete(agent, request)
    texts = [bytes(token for token in sample.tokens if token < 256) for one in asked for sample in one.given]
    assert texts and not any(letter in text for text in texts for letter in b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert len(texts) < 8 * 3


def kept_as(asked: list[pb.SolveRequest], cloud: CloudServer) -> None:
    """Keep what the cloud is asked."""
    serve = cloud.service._solves.serve

    async def seen(request: pb.SolveRequest, *args: Any, **more: Any) -> None:
        asked.append(request)
        await serve(request, *args, **more)

    cloud.service._solves.serve = seen  # type: ignore[method-assign]


async def test_money_bounds_what_the_cloud_draws(tmp_path: Path) -> None:
    prices, limits = PriceSettings(cloud_output=1e6), LimitSettings(money=20, state=tmp_path / "spent")  # one a token
    async with running_cloud(HashEngine()) as cloud:
        async with running_agent(edge_engine(), cloud.address, prices=prices, limits=limits) as agent:
            _, completion = await complete(agent, ask(CLOUD_ONLY))
            assert completion.solution is not None and completion.solution.compute.cloud_tokens <= 20
            assert completion.statistics.cost == completion.solution.compute.cloud_tokens
            _, later = await complete(agent, ask(ALWAYS))
            assert later.withheld == "limit_money" or later.statistics.cost <= 20


async def test_a_chats_last_words_are_the_question() -> None:
    asked: list[pb.SolveRequest] = []
    async with running_cloud(HashEngine(context=2048)) as cloud:
        async with running_agent(edge_engine(context=2048), cloud.address) as agent:
            kept_as(asked, cloud)
            chat = [ChatMessage("user", "one"), ChatMessage("assistant", "two"), ChatMessage("user", "three")]
            await complete(agent, ask(CLOUD_ONLY, None, messages=chat))  # type: ignore[arg-type]
            await complete(agent, ask(CLOUD_ONLY))
    assert list(asked[0].question) == HashEngine().tokenizer.encode("three") and not asked[1].question


async def test_events_of_tokens_alone_come_from_generate() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        kinds = [type(event) async for event in agent.generate(ask(ALWAYS, progress=True))]
        assert set(kinds) == {TokenEvent, Completion}
