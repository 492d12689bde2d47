"""Faults on the link: the answer always completes, and what a verdict covered is never changed."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

from bench.relay import Relay
from tests.edge.test_agent import LENGTH, ask, edge_engine
from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_agent, running_cloud, until
from updraft.config import CloudLinkSettings, EdgeSettings, ListenSettings
from updraft.errors import CloudUnavailable, LateReply, Unauthenticated
from updraft.failpoints import armed
from updraft.generation import Completion
from updraft.modes import Origin
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge.agent import Agent
from updraft_edge.breaker import Breaker, BreakerState
from updraft_edge.link import CloudLink
from updraft_edge.stream import CloudStream
from updraft_edge.wire import read_error


def relay_to(address: str, **shape: Any) -> Relay:
    host, port = address.rsplit(":", 1)
    return Relay(host, int(port), **shape)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def linked(agent: Agent) -> Callable[[], bool]:
    link = agent.link
    assert link is not None
    return lambda: link.breaker.closed


@pytest.mark.parametrize("mode", ["cloud", "draft"])
async def test_a_delayed_link_changes_nothing_but_the_time(mode: str) -> None:
    async with running_cloud(HashEngine()) as cloud, relay_to(cloud.address, delay_s=0.005) as relay:
        async with running_agent(edge_engine(), cloud.address) as near:
            _, expected = await complete(near, ask("cloud"))
        async with running_agent(edge_engine(), relay.address) as far:
            _, completion = await complete(far, ask(mode))
    assert completion.token_ids == expected.token_ids
    assert not completion.degraded


@pytest.mark.parametrize("mode", ["cloud", "draft", "span"])
@pytest.mark.parametrize("seed", range(3))
async def test_a_stream_cut_at_random_moments_is_opened_again_and_nothing_is_lost(mode: str, seed: int) -> None:
    rng = random.Random(seed)
    async with running_cloud(HashEngine()) as cloud, relay_to(cloud.address, delay_s=0.001) as relay:
        async with running_agent(edge_engine(), cloud.address) as near:
            _, expected = await complete(near, ask(mode, max_tokens=300))
        async with running_agent(edge_engine(), relay.address, link={"reconnect_attempts": 9}) as agent:
            cutting = asyncio.create_task(cut_often(relay, rng))
            _, completion = await complete(agent, ask(mode, max_tokens=300))
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
    assert completion.token_ids == expected.token_ids
    assert not completion.degraded
    assert completion.statistics.reopened > 0


async def cut_often(relay: Relay, rng: Any) -> None:
    for _ in range(6):
        await asyncio.sleep(rng.uniform(0.01, 0.04))
        relay.cut()


async def test_a_cloud_that_was_never_there_leaves_an_answer_by_the_edge() -> None:
    async with running_agent(edge_engine(), f"127.0.0.1:{free_port()}") as agent:
        for mode in ("draft", "cloud", "span"):
            span = {"escalate": 0.5, "hand_back": 0.1, "min_stay": 2}
            events, completion = await complete(agent, ask(mode, extra={"span": span}))
            assert completion.degraded
            assert completion.degraded_reason == "cloud_unavailable"
            assert {event.origin for event in events} == {Origin.EDGE}
            assert completion.statistics.tokens == LENGTH


@pytest.mark.parametrize("mode", ["draft", "cloud"])
async def test_a_cloud_that_dies_in_mid_answer_leaves_the_rest_to_the_edge(mode: str) -> None:
    async with running_cloud(HashEngine()) as cloud, relay_to(cloud.address) as relay:
        async with running_agent(edge_engine(), relay.address) as agent:
            _, expected = await complete(agent, ask("cloud", max_tokens=300))
            answer = agent.generate(ask(mode, max_tokens=300))
            events = [await anext(answer) for _ in range(20)]
            relay.refuse(True)
            relay.cut()
            rest = [item async for item in answer]
            completion = rest.pop()
            assert isinstance(completion, Completion)
            assert completion.degraded
            assert completion.statistics.tokens == 300
            tokens = [event.token for event in [*events, *rest] if not isinstance(event, Completion)]
            alone = next(
                index
                for index, event in enumerate([*events, *rest])
                if not isinstance(event, Completion) and not event.verified
            )
            assert tokens[:alone] == expected.token_ids[:alone]
            relay.refuse(False)
            async with asyncio.timeout(20):  # gRPC waits longer before each attempt to connect
                while (again := (await complete(agent, ask(mode, max_tokens=300)))[1]).degraded:
                    await asyncio.sleep(0.1)
            assert again.token_ids == expected.token_ids


async def test_a_cloud_that_says_nothing_is_given_up_after_the_reply_timeout() -> None:
    async with running_cloud(HashEngine()) as cloud, relay_to(cloud.address) as relay:
        async with running_agent(edge_engine(), relay.address, link={"reply_timeout_s": 0.2}) as agent:
            await complete(agent, ask("draft"))
            answer = agent.generate(ask("draft", max_tokens=300))
            await anext(answer)
            relay.stall()
            items = [item async for item in answer]
            completion = items[-1]
            assert isinstance(completion, Completion)
            assert (completion.degraded, completion.degraded_reason) == (True, "late_reply")
            relay.resume()


async def test_credentials_that_end_in_mid_answer_leave_the_rest_to_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    read_until, reads = CloudStream.read_until, 0

    async def expired(stream: CloudStream, kind: str) -> Any:
        nonlocal reads
        reads += 1
        if reads > 5:
            raise Unauthenticated("The token has expired.")
        return await read_until(stream, kind)

    monkeypatch.setattr(CloudStream, "read_until", expired)
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        _, completion = await complete(agent, ask("draft"))
        assert (completion.degraded_reason, completion.statistics.tokens) == ("unauthenticated", LENGTH)
        with pytest.raises(Unauthenticated):  # but who cannot even begin is told
            await complete(agent, ask("draft"))


async def test_a_broken_stream_that_nobody_explains_in_time_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cloud is not late with a verdict: it never heard of the draft."""
    put, puts = CloudStream.put, 0

    async def breaking(stream: CloudStream, frame: Any) -> None:
        nonlocal puts
        puts += 1
        if puts == 4:
            raise asyncio.InvalidStateError
        await put(stream, frame)

    async def silent(link: CloudLink) -> Any:
        raise LateReply("DEADLINE_EXCEEDED: Deadline Exceeded")

    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        _, expected = await complete(agent, ask("draft"))
        monkeypatch.setattr(CloudStream, "put", breaking)
        monkeypatch.setattr(CloudLink, "describe", silent)
        _, completion = await complete(agent, ask("draft"))
    assert (completion.token_ids, completion.degraded_reason) == (expected.token_ids, None)
    assert completion.statistics.reopened == 1


@pytest.mark.parametrize("code", ["", "internal", "of_a_newer_cloud"])
def test_an_error_that_the_edge_does_not_know_lets_it_open_the_session_again(code: str) -> None:
    error = read_error(pb.Error(code=code, message="No."))
    assert isinstance(error, CloudUnavailable) and error.retryable and error.message == "No."


async def test_an_engine_that_fails_in_the_cloud_is_asked_again() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        _, expected = await complete(agent, ask("draft"))
        with armed("verdict.before_commit=error*1@2;verdict.after_commit=error*1@2;span.before_commit=error*2"):
            for mode in ("draft", "cloud"):
                _, completion = await complete(agent, ask(mode))
                assert (completion.token_ids, completion.degraded) == (expected.token_ids, False)
                assert completion.statistics.reopened == 2


async def test_after_some_failures_nobody_waits_until_a_probe_has_succeeded() -> None:
    port = free_port()
    link = {"breaker_failures": 2, "probe_interval_s": 0.02, "reconnect_attempts": 1}
    async with running_agent(edge_engine(), f"127.0.0.1:{port}", link=link) as agent:
        assert agent.link is not None
        for _ in range(2):
            await complete(agent, ask("draft"))
        assert not agent.link.breaker.closed
        _, completion = await complete(agent, ask("draft"))
        assert completion.degraded
        assert completion.statistics.bytes_up == 0
        async with running_cloud(HashEngine(), listen=ListenSettings(port=port)):
            await until(linked(agent))
            _, completion = await complete(agent, ask("draft"))
            assert not completion.degraded


async def test_local_only_never_opens_a_connection() -> None:
    """Watched at the socket: neither an agent nor a request that is local only reaches the listener."""
    connections = 0

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    listener = await asyncio.start_server(accepted, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()[:2]
    async with listener:
        async with running_agent(edge_engine(), f"{host}:{port}") as agent:
            await until(lambda: connections > 0)
            assert agent.link is not None
            await agent.link.close()  # the agent itself may greet the cloud; its local-only requests may not
            greetings = connections
            for mode in ("draft", "cloud", "span"):
                _, completion = await complete(agent, ask(mode, extra={"local_only": True}))
                assert (completion.mode, completion.degraded) == ("edge", False)
            assert connections == greetings
            await complete(agent, ask("draft"))
            assert connections > greetings  # the listener does see what is not local only
    # A listener of its own: the first agent's last attempt may arrive late.
    connections = 0
    listener = await asyncio.start_server(accepted, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()[:2]
    async with listener:
        edge = EdgeSettings(cloud=CloudLinkSettings(address=f"{host}:{port}"), local_only=True)
        async with Agent(edge, engine=edge_engine()) as agent:
            for mode in ("draft", "cloud", "span"):
                await complete(agent, ask(mode))
        assert connections == 0


def test_the_breaker_opens_probes_once_and_closes() -> None:
    now = 0.0
    breaker = Breaker(2, 5.0, clock=lambda: now)
    breaker.failure()
    assert breaker.closed
    breaker.success()
    breaker.failure()
    assert breaker.closed
    breaker.failure()
    assert breaker.state is BreakerState.OPEN
    assert not breaker.probe_due()
    now = 5.0
    assert breaker.probe_due()
    assert not breaker.probe_due()
    breaker.failure()
    assert breaker.state is BreakerState.OPEN
    now = 9.0
    assert not breaker.probe_due()
    now = 10.0
    assert breaker.probe_due()
    breaker.success()
    assert breaker.closed
