"""Mode `lookup`, and looking up before the edge's model: the text is the cloud's, whatever was drafted."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.edge.test_agent import ask, edge_engine
from tests.edge.test_faults import cut_often, free_port, relay_to
from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, idle, running_agent, running_cloud, until
from updraft.agent_wire import completion_to_json
from updraft.engine.base import FloatRows
from updraft.modes import Origin
from updraft.sampling import Sampler, SamplingParams

PROMPT = "abcabcabdabcabcab"


class EchoEngine(HashEngine):
    """A model that mostly goes on as its text went on before: what can be looked up stands."""

    def _row(self, prefix: tuple[int, ...]) -> FloatRows:
        logits = super()._row(prefix[-3:])
        for place in range(len(prefix) - 3, -1, -1):
            if prefix[place : place + 2] == prefix[-2:]:
                logits = logits.copy()
                logits[prefix[place + 2]] += np.float32(6.0)
                break
        return logits


def lookup(**changes: Any) -> dict[str, Any]:
    return {"lookup": changes}


BEFORE = [("lookup", lookup()), ("lookup", lookup(sources=["trigram"])), ("lookup", lookup(sources=["trie"], match=5))]
BEFORE += [("draft", lookup(before_model=True)), ("lookup", lookup(branches=4)), ("lookup", lookup(longest=2))]


@pytest.mark.parametrize(("mode", "extra"), BEFORE)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
async def test_what_is_looked_up_changes_nothing_but_the_passes(
    mode: str, extra: dict[str, Any], temperature: float
) -> None:
    small, large = EchoEngine(noise=0.8, own_seed=7), EchoEngine()
    async with running_cloud(large) as cloud, running_agent(small, cloud.address) as agent:
        for prompt in (PROMPT, "hello"):
            written, alone = await complete(agent, ask("cloud", prompt, temperature=temperature))
            events, answer = await complete(agent, ask(mode, prompt, temperature=temperature, extra=extra))
            assert answer.token_ids == alone.token_ids
            assert not answer.degraded
            assert all(event.verified for event in events)
            if prompt == PROMPT and mode == "lookup":
                counts = answer.statistics
                assert 0 < counts.lookup_accepted <= counts.lookup_drafted
                assert counts.cloud_passes < alone.statistics.cloud_passes
            assert [event.logprob for event in events] == pytest.approx([event.logprob for event in written])
        await until(lambda: small.open_sequences == 0 and idle(cloud))


@given(st.integers(0, 10**6), st.text("abc", min_size=1, max_size=60), st.booleans(), st.integers(1, 6))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lookup_is_lossless_for_any_prompt(seed: int, prompt: str, before: bool, branches: int) -> None:
    async def check() -> None:
        small = EchoEngine(seed=seed, noise=1.0)
        async with running_cloud(EchoEngine(seed=seed)) as cloud, running_agent(small, cloud.address) as agent:
            _, alone = await complete(agent, ask("cloud", prompt))
            extra = lookup(branches=branches, before_model=before)
            _, answer = await complete(agent, ask("draft" if before else "lookup", prompt, extra=extra))
            assert answer.token_ids == alone.token_ids

    asyncio.run(check())


@pytest.mark.parametrize("mode", ["lookup", "draft"])
@pytest.mark.parametrize("seed", range(2))
async def test_a_cut_stream_changes_nothing(mode: str, seed: int) -> None:
    rng, extra = random.Random(seed), lookup(branches=3, before_model=True)
    async with running_cloud(EchoEngine()) as cloud, relay_to(cloud.address, delay_s=0.001) as relay:
        async with running_agent(edge_engine(), cloud.address) as near:
            _, expected = await complete(near, ask("cloud", PROMPT, max_tokens=300))
        small = EchoEngine(noise=0.8, own_seed=7)
        async with running_agent(small, relay.address, link={"reconnect_attempts": 9}) as agent:
            cutting = asyncio.create_task(cut_often(relay, rng))
            _, answer = await complete(agent, ask(mode, PROMPT, max_tokens=300, extra=extra))
            cutting.cancel()
    assert answer.token_ids == expected.token_ids
    assert not answer.degraded


@pytest.mark.parametrize("mode", ["lookup", "draft"])
async def test_without_the_cloud_the_edge_writes_what_it_would_have_written(mode: str) -> None:
    small = EchoEngine(noise=0.8, own_seed=7)
    async with running_agent(small, f"127.0.0.1:{free_port()}", link={"reconnect_attempts": 1}) as agent:
        _, alone = await complete(agent, ask("edge", PROMPT))
        for _ in range(3):  # in the end the breaker is open
            events, answer = await complete(agent, ask(mode, PROMPT, extra=lookup(before_model=True)))
            assert answer.degraded
            assert answer.token_ids == alone.token_ids
            assert all(event.origin is Origin.EDGE and not event.verified for event in events)
        await until(lambda: small.open_sequences == 0)


@pytest.mark.parametrize("mode", ["lookup", "draft"])
async def test_a_cloud_that_goes_away_leaves_no_looked_up_token_behind(mode: str) -> None:
    """What was drafted but not judged is not the edge's own text: it is neither committed nor remembered."""
    async with running_cloud(EchoEngine()) as cloud, relay_to(cloud.address) as relay:
        async with running_agent(EchoEngine(noise=0.8, own_seed=7), relay.address) as agent:
            changes: dict[str, Any] = {"temperature": 0.0, "max_tokens": 200, "extra": lookup(before_model=True)}
            answer = agent.generate(ask(mode, PROMPT, **changes))
            items: list[Any] = [await anext(answer) for _ in range(20)]
            relay.refuse(True)
            relay.cut()
            items += [item async for item in answer]
            assert items.pop().degraded
            judged = [event.token for event in items if event.verified]
            tokens = [event.token for event in items]
            assert tokens[: len(judged)] == judged
            memory = agent._workshop.lookups.memory
            assert [token for trie in memory.tries for token in trie.text if token >= 0] == judged
            edge = HashEdge(agent.encode(PROMPT) + judged)
            assert tokens[len(judged) :] == edge.write(200 - len(judged))


class HashEdge:
    """The edge's own greedy text after a log, token by token."""

    def __init__(self, log: list[int]) -> None:
        self._engine = EchoEngine(noise=0.8, own_seed=7)
        self._log = log

    def write(self, count: int) -> list[int]:
        sampler = Sampler(SamplingParams(seed=5, frequency_penalty=0.2))
        sampler.commit(self._log[len(PROMPT) :])
        start = len(self._log)
        for _ in range(count):
            token = sampler.draw(self._engine._row(tuple(self._log)), len(self._log)).token
            sampler.commit([token])
            self._log.append(token)
        return self._log[start:]


async def test_events_never_hold_what_is_no_number() -> None:
    small = EchoEngine(noise=0.8, own_seed=7)
    async with running_cloud(EchoEngine()) as cloud, running_agent(small, cloud.address) as agent:
        for mode in ("lookup", "draft"):
            extra = lookup(before_model=True)
            request = ask(mode, PROMPT, temperature=0.0, max_tokens=200, extra=extra, logprobs=True, top_logprobs=2)
            events, answer = await complete(agent, request)
            assert answer.statistics.lookup_accepted
            for event in events:
                assert math.isfinite(event.logprob) and math.isfinite(event.entropy) and math.isfinite(event.energy)
                assert len(event.top) == 2
            assert "NaN" not in completion_to_json(answer)


class TestMemory:
    """Past answers are looked up in, and nothing else is kept."""

    async def answers(self, *requests: Any) -> list[Sequence[int]]:
        large, kept = EchoEngine(), []
        async with running_cloud(large) as cloud, running_agent(edge_engine(), cloud.address) as agent:
            for request in requests:
                _, answer = await complete(agent, request)
                assert not answer.degraded
                kept.append(answer.token_ids)
            tries = agent._workshop.lookups.memory.tries
            return [kept[-1], [token for trie in tries for token in trie.text if token >= 0]]

    async def test_an_answer_is_remembered_and_its_prompt_is_not(self) -> None:
        answer, remembered = await self.answers(ask("lookup", PROMPT))
        assert remembered == answer

    async def test_a_repeated_question_is_answered_from_memory(self) -> None:
        async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
            for _ in range(6):  # the more often it stands, the longer the runs
                _, first = await complete(agent, ask("lookup", "zq"))
            _, alone = await complete(agent, ask("cloud", "zq"))
            assert first.token_ids == alone.token_ids
            assert first.statistics.cloud_passes < alone.statistics.cloud_passes / 2

    @pytest.mark.parametrize(
        "request_",
        [
            ask("lookup", PROMPT, extra={"local_only": True}),
            ask("edge", PROMPT),
            ask("draft", PROMPT),
            ask("lookup", PROMPT, extra=lookup(remember=False)),
        ],
    )
    async def test_what_the_cloud_has_not_seen_or_must_not_keep_is_not_remembered(self, request_: Any) -> None:
        _, remembered = await self.answers(request_)
        assert remembered == []


@pytest.mark.parametrize("sequences", [1, 2, 8])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
async def test_trees_change_nothing_whether_or_not_the_cloud_has_room_for_them(
    sequences: int, temperature: float
) -> None:
    large = EchoEngine(sequences=sequences)
    async with running_cloud(large) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        followed = 0
        for prompt in (PROMPT, "abacabadabacaba", "xyxzxyxzxyxw"):
            _, alone = await complete(agent, ask("cloud", prompt, temperature=temperature))
            request = ask("lookup", prompt, temperature=temperature, extra=lookup(branches=4, match=1))
            events, answer = await complete(agent, request)
            assert answer.token_ids == alone.token_ids == [event.token for event in events]
            followed += answer.statistics.lookup_accepted
        assert followed
        await until(lambda: idle(cloud))
