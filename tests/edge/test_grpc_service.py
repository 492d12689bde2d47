from __future__ import annotations

import asyncio
import json
import math

import grpc
import pytest
from grpc import aio

from tests.fakes.generator import FakeAgent
from tests.shared.client.serving import eventually, serving
from updraft.agent_wire import completion_from_json
from updraft.errors import Cancelled, InvalidRequest, PromptTooLong, RequestTooLarge, UpdraftError
from updraft.modes import Mode, ModeSettings
from updraft.transport import error_from_rpc
from updraft.v1 import agent_pb2 as pb
from updraft.v1.agent_pb2_grpc import AgentStub
from updraft.v1.sampling_pb2 import Sampling

BIG = "x" * 200_000  # a few of these fill every buffer between a server and a client that does not read


async def collect(address: str, request: pb.GenerateRequest) -> list[pb.GenerateEvent]:
    async with aio.insecure_channel(address) as channel:
        return [event async for event in AgentStub(channel).Generate(request, timeout=10)]


async def refusal(address: str, request: pb.GenerateRequest) -> UpdraftError:
    with pytest.raises(grpc.RpcError) as caught:
        await collect(address, request)
    return error_from_rpc(caught.value)


async def test_tokens_come_first_and_one_completion_last() -> None:
    async with serving(FakeAgent()) as address:
        events = await collect(address, pb.GenerateRequest(text="Hi"))
    assert [event.WhichOneof("body") for event in events] == ["token"] * 4 + ["finished"]
    completion = completion_from_json(events[-1].finished.completion_json)
    assert completion.text == "".join(event.token.text for event in events[:-1]) == "Hello, world!"
    assert completion.token_ids == [event.token.token for event in events[:-1]]


async def test_a_character_split_over_tokens_stays_whole_and_its_bytes_are_told() -> None:
    async with serving(FakeAgent([b"\xf0\x9f", b"\x8c\xa4"])) as address:
        events = await collect(address, pb.GenerateRequest(text="Hi"))
    assert [event.token.text for event in events[:-1]] == ["", "🌤"]
    assert [event.token.piece for event in events[:-1]] == [b"\xf0\x9f", b"\x8c\xa4"]


async def test_info_is_the_agents_own() -> None:
    agent = FakeAgent()
    async with serving(agent) as address, aio.insecure_channel(address) as channel:
        reply = await AgentStub(channel).Info(pb.InfoRequest(), timeout=10)
    assert json.loads(reply.info_json) == json.loads(json.dumps(agent.info()))


async def test_the_agents_defaults_lie_under_a_requests_settings() -> None:
    agent = FakeAgent()
    async with serving(agent, defaults=ModeSettings(mode=Mode.SPAN)) as address:
        await collect(address, pb.GenerateRequest(text="Hi", local_only=True))
        await collect(address, pb.GenerateRequest(text="Hi", settings_json='{"mode": "edge"}'))
    assert [request.settings for request in agent.requests] == [
        ModeSettings(mode=Mode.SPAN, local_only=True),
        ModeSettings(mode=Mode.EDGE),
    ]


@pytest.mark.parametrize(
    "request_",
    [
        pb.GenerateRequest(),
        pb.GenerateRequest(text="a", sampling=Sampling(temperature=math.nan)),
        pb.GenerateRequest(text="a", sampling=Sampling(top_p=-1)),
        pb.GenerateRequest(text="a", max_tokens=2**32 - 1),
        pb.GenerateRequest(text="a", settings_json="{"),
        pb.GenerateRequest(text="a", settings_json='{"mode": "turbo"}'),
    ],
)
async def test_bad_requests_never_reach_the_agent(request_: pb.GenerateRequest) -> None:
    agent = FakeAgent()
    async with serving(agent) as address:
        error = await refusal(address, request_)
        assert isinstance(error, InvalidRequest)
        assert error.message
        assert error.remedy
        assert agent.requests == []
        assert len(await collect(address, pb.GenerateRequest(text="Hi"))) == 5


@pytest.mark.parametrize("raw", [b"\x12\x02\xff\xfe", b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f"])
async def test_bytes_that_are_no_request_are_the_callers_error(raw: bytes) -> None:
    async with serving(FakeAgent()) as address, aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            async for _ in channel.unary_stream("/updraft.v1.Agent/Generate", None, None)(raw, timeout=10):
                pass
    assert isinstance(error_from_rpc(caught.value), InvalidRequest)


async def test_the_agents_error_comes_after_its_tokens_with_code_and_remedy() -> None:
    agent = FakeAgent(failure=PromptTooLong("7000 tokens; the limit is 2048."), fail_after=2)
    async with serving(agent) as address:
        error = await refusal(address, pb.GenerateRequest(text="Hi"))
    assert isinstance(error, PromptTooLong)
    assert "2048" in error.message
    assert "--context" in error.remedy


async def test_a_client_that_cancels_frees_its_answer() -> None:
    agent = FakeAgent(["a"] * 1000, delay=0.01)
    async with serving(agent) as address, aio.insecure_channel(address) as channel:
        call = AgentStub(channel).Generate(pb.GenerateRequest(text="Hi"))
        await call.read()
        call.cancel()
        await eventually(lambda: agent.running == 0)
        assert agent.closed_early == 1


async def test_a_client_whose_connection_vanishes_frees_its_answer() -> None:
    agent = FakeAgent(["a"] * 1000, delay=0.01)
    async with serving(agent) as address:
        channel = aio.insecure_channel(address)
        call = AgentStub(channel).Generate(pb.GenerateRequest(text="Hi"))
        await call.read()
        await channel.close(None)
        await eventually(lambda: agent.running == 0)


async def test_a_client_that_never_reads_loses_its_stream_and_others_go_on() -> None:
    agent = FakeAgent(lambda request: [BIG] * 500 if request.prompt == "flood" else ["fine"])
    async with serving(agent, write_timeout_s=0.3) as address, aio.insecure_channel(address) as channel:
        call = AgentStub(channel).Generate(pb.GenerateRequest(text="flood"))
        events = call.__aiter__()
        await anext(events)
        assert agent.running == 1
        assert len(await collect(address, pb.GenerateRequest(text="Hi"))) == 2
        await eventually(lambda: agent.running == 0)
        assert agent.closed_early == 1
        with pytest.raises(grpc.RpcError) as caught:
            async with asyncio.timeout(5):
                async for _ in events:
                    pass
        assert isinstance(error_from_rpc(caught.value), Cancelled)


async def test_a_slow_reader_within_the_limit_gets_everything() -> None:
    agent = FakeAgent([BIG] * 15)
    async with serving(agent, write_timeout_s=2) as address, aio.insecure_channel(address) as channel:
        count = 0
        async for _ in AgentStub(channel).Generate(pb.GenerateRequest(text="Hi"), timeout=20):
            await asyncio.sleep(0.04)
            count += 1
    assert count == 16


async def test_an_event_too_large_for_grpc_ends_the_call_and_frees_the_answer() -> None:
    agent = FakeAgent(["x" * 5_000_000, "y"])
    async with serving(agent) as address:
        assert isinstance(await refusal(address, pb.GenerateRequest(text="Hi")), RequestTooLarge)
        await eventually(lambda: agent.running == 0)
        assert agent.closed_early == 1


async def test_many_answers_at_once_do_not_mix() -> None:
    agent = FakeAgent(lambda request: [f"{request.prompt}-{n} " for n in range(20)], delay=0.001)
    async with serving(agent) as address:
        answers = await asyncio.gather(*(collect(address, pb.GenerateRequest(text=str(n))) for n in range(16)))
    for number, events in enumerate(answers):
        assert "".join(event.token.text for event in events[:-1]) == "".join(f"{number}-{n} " for n in range(20))
    assert agent.running == 0
