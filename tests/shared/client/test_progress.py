"""Progress and solutions through the SDK, with an event loop and without."""

from __future__ import annotations

import pytest

from tests.fakes.generator import FakeAgent
from tests.fakes.solutions import PROGRESS, SOLUTION
from tests.shared.client.serving import BackgroundServer, serving
from updraft.agent_wire import progress_from_proto, progress_to_proto
from updraft.client import AsyncClient, Client
from updraft.errors import InvalidRequest, ProtocolViolation, UnknownName
from updraft.generation import TokenEvent
from updraft.modes import Mode
from updraft.solution import ProgressEvent
from updraft.v1 import agent_pb2 as pb


@pytest.mark.parametrize("event", PROGRESS)
def test_progress_crosses_the_wire(event: ProgressEvent) -> None:
    assert progress_from_proto(progress_to_proto(event)) == event


def test_progress_from_nowhere_is_refused() -> None:
    with pytest.raises(ProtocolViolation, match="origin"):
        progress_from_proto(pb.Progress(kind="sample", origin="moon"))


async def test_a_stream_tells_what_happens_to_who_follows_it() -> None:
    agent = FakeAgent(progress=PROGRESS, solution=SOLUTION)
    options = {"effort": "high", "budget": {"samples": 3}, "strategy": {"name": "rpc"}, "verifier": "logprob"}
    async with serving(agent) as address, AsyncClient(address) as client:
        async with client.stream("Hi", progress=True, alternatives=True, **options) as stream:  # type: ignore[arg-type]
            events = [event async for event in stream.follow()]
        assert tuple(events[: len(PROGRESS)]) == PROGRESS and stream.completion.solution == SOLUTION
        assert all(isinstance(event, TokenEvent) for event in events[len(PROGRESS) :])
        async with client.stream("Hi", progress=True, effort="low") as stream:
            assert "".join([event.text async for event in stream]) == "Hello, world!"
        completion = await client.generate("Hi", effort="low")
    assert completion.solution == SOLUTION and not agent.requests[-1].progress
    (request, *_) = agent.requests
    assert request.progress and request.alternatives and request.settings is not None
    settings = request.settings
    assert settings.mode is Mode.SOLVE and settings.budget.samples == 3 and settings.verifier == "logprob"
    assert settings.strategy == {"name": "rpc"}


async def test_wrong_names_come_back_as_what_they_are() -> None:
    async with serving(FakeAgent()) as address, AsyncClient(address) as client:
        with pytest.raises(UnknownName, match="guess"):
            await client.generate("Hi", strategy="guess")
        with pytest.raises(InvalidRequest, match="samples"):
            await client.generate("Hi", effort="low", budget={"samples": 0})


def test_the_blocking_client_follows_too() -> None:
    server = BackgroundServer(FakeAgent(progress=PROGRESS, solution=SOLUTION))
    try:
        with Client(server.address) as client:
            with client.stream("Hi", progress=True, effort="max") as stream:
                events = list(stream.follow())
            assert tuple(events[: len(PROGRESS)]) == PROGRESS and stream.completion.solution == SOLUTION
            with client.stream("Hi", progress=True, effort="max") as stream:
                assert len(list(stream)) == 4
    finally:
        server.stop()
