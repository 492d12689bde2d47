from __future__ import annotations

import asyncio
import socket
from itertools import pairwise

import grpc
import pytest
from grpc import aio

from tests.fakes.generator import FakeAgent
from tests.shared.client.serving import eventually, serving
from updraft.client import AsyncClient
from updraft.errors import (
    AgentUnavailable,
    Cancelled,
    ConfigError,
    InvalidRequest,
    LateReply,
    Overloaded,
    PromptTooLong,
    ProtocolViolation,
    TokenizerMismatch,
    Unauthenticated,
    UnknownName,
    UpdraftError,
    error_classes,
)
from updraft.generation import ChatMessage, GenerationRequest, TokenEvent
from updraft.mode_settings import SpanSettings
from updraft.modes import Mode, ModeSettings, Origin
from updraft.sampling import SamplingParams
from updraft.v1 import agent_pb2 as pb


async def test_generate_returns_the_agents_completion() -> None:
    async with serving(FakeAgent()) as address, AsyncClient(address) as client:
        completion = await client.generate("Hi", seed=9)
    assert completion.text == "Hello, world!"
    assert completion.finish_reason == "stop"
    assert completion.seed == 9
    assert len(completion.token_ids) == completion.statistics.tokens == 4
    assert completion.statistics.cloud_tokens == 2


async def test_every_option_reaches_the_agent() -> None:
    agent = FakeAgent()
    async with serving(agent) as address, AsyncClient(address) as client:
        await client.generate(
            messages=[{"role": "system", "content": "Be kind."}, ChatMessage("user", "Grüße 🌤")],
            settings=ModeSettings(mode=Mode.SPAN, span=SpanSettings(window=7)),
            max_tokens=3,
            temperature=0.7,
            top_k=40,
            top_p=0.9,
            min_p=0.05,
            repetition_penalty=1.1,
            frequency_penalty=0.2,
            presence_penalty=0.3,
            logit_bias={5: -1.5},
            seed=2**64 - 1,
            stop="END",
            logprobs=True,
            top_logprobs=2,
            ignore_end=True,
            local_only=True,
        )
    assert agent.requests == [
        GenerationRequest(
            messages=[ChatMessage("system", "Be kind."), ChatMessage("user", "Grüße 🌤")],
            settings=ModeSettings(mode=Mode.SPAN, span=SpanSettings(window=7), local_only=True),
            max_tokens=3,
            sampling=SamplingParams(0.7, 40, 0.9, 0.05, 1.1, 0.2, 0.3, {5: -1.5}, 2**64 - 1),
            stop=("END",),
            logprobs=True,
            top_logprobs=2,
            ignore_end=True,
        )
    ]


async def test_what_is_left_out_is_left_to_the_agent() -> None:
    agent = FakeAgent()
    async with serving(agent) as address, AsyncClient(address) as client:
        await client.generate(prompt_tokens=[1, 2])
    assert agent.requests == [GenerationRequest(prompt_tokens=[1, 2])]


async def test_mode_and_partial_settings_lie_over_the_agents_defaults() -> None:
    agent = FakeAgent()
    defaults = ModeSettings(mode=Mode.EDGE, span=SpanSettings(window=9))
    async with serving(agent, defaults=defaults) as address, AsyncClient(address) as client:
        await client.generate("a", mode="span", settings={"span": {"min_stay": 2}})
    assert agent.requests[0].settings == ModeSettings(mode=Mode.SPAN, span=SpanSettings(window=9, min_stay=2))


async def test_stream_gives_each_token_with_its_origin_and_then_the_completion() -> None:
    async with (
        serving(FakeAgent()) as address,
        AsyncClient(address) as client,
        client.stream("Hi", top_logprobs=1, logprobs=True) as stream,
    ):
        with pytest.raises(RuntimeError, match="not complete"):
            _ = stream.completion
        events = [event async for event in stream]
    assert "".join(event.text for event in events) == stream.completion.text == "Hello, world!"
    assert [event.index for event in events] == [0, 1, 2, 3]
    assert [event.origin for event in events] == [Origin.EDGE, Origin.CLOUD] * 2
    assert [event.piece for event in events] == [b"Hello", b",", b" world", b"!"]
    assert all(event.top == ((event.token, -0.5),) for event in events)
    assert all(later.seconds >= sooner.seconds for sooner, later in pairwise(events))


async def test_tokens_arrive_while_the_answer_is_being_written() -> None:
    agent = FakeAgent(["a"] * 50, delay=0.02)
    async with serving(agent) as address, AsyncClient(address) as client, client.stream("Hi") as stream:
        await anext(stream)
        assert agent.running == 1


async def test_leaving_the_stream_early_frees_the_agent() -> None:
    agent = FakeAgent(["a"] * 1000, delay=0.01)
    async with serving(agent) as address, AsyncClient(address) as client:
        async with client.stream("Hi") as stream:
            await anext(stream)
            assert agent.running == 1
        await eventually(lambda: agent.running == 0)
        assert agent.closed_early == 1
        with pytest.raises(Cancelled):
            await anext(stream)
        assert (await client.generate("again", max_tokens=1)).text == "a"


async def test_cancelling_the_callers_task_frees_the_agent() -> None:
    agent = FakeAgent(["a"] * 1000, delay=0.01)
    async with serving(agent) as address, AsyncClient(address) as client:
        task = asyncio.create_task(client.generate("Hi"))
        await eventually(lambda: agent.running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: agent.running == 0)


async def test_closing_the_client_cancels_what_runs() -> None:
    agent = FakeAgent(["a"] * 1000, delay=0.01)
    async with serving(agent) as address:
        client = AsyncClient(address)
        stream = client.stream("Hi")
        await anext(stream)
        await client.close()
        with pytest.raises((Cancelled, asyncio.CancelledError)):
            await anext(stream)
        await eventually(lambda: agent.running == 0)


@pytest.mark.parametrize("code", sorted(error_classes()))
async def test_errors_arrive_as_the_class_that_was_raised(code: str) -> None:
    raised = error_classes()[code]("What went wrong: \u00fc.", remedy="Do this.", param="seed")
    async with serving(FakeAgent(failure=raised, fail_after=1)) as address, AsyncClient(address) as client:
        stream = client.stream("Hi")
        assert isinstance(await anext(stream), TokenEvent)
        with pytest.raises(UpdraftError) as caught:
            await anext(stream)
    assert type(caught.value) is type(raised)
    assert (caught.value.message, caught.value.remedy, caught.value.param) == (raised.message, "Do this.", "seed")


async def test_an_unforeseen_failure_tells_nothing_of_the_prompt() -> None:
    agent = FakeAgent(failure=RuntimeError("the prompt was: secret"))
    async with serving(agent) as address, AsyncClient(address) as client:
        with pytest.raises(UpdraftError, match="unforeseen") as caught:
            await client.generate("secret")
    assert "secret" not in str(caught.value)
    assert agent.running == 0


async def test_an_unknown_mode_is_refused_by_the_agent() -> None:
    async with serving(FakeAgent()) as address, AsyncClient(address) as client:
        with pytest.raises(UnknownName, match="turbo"):
            await client.generate("a", mode="turbo")


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"top_p": 0.0},
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"seed": -1},
        {"stop": [""]},
        {"stop": 7},
        {"messages": [{"role": "user"}]},
        {"messages": "hello"},
        {"prompt_tokens": [1]},
        {"timeout": 0.0},
        {"timeout": float("nan")},
        {"settings": {"mode": object()}},
        {"settings": 7},
        {"local_only": "yes"},
    ],
)
async def test_bad_options_are_refused_before_anything_is_sent(options: dict[str, object]) -> None:
    prompt = None if "messages" in options else "a"
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(InvalidRequest):
            client.stream(prompt, **options)  # type: ignore[arg-type]


async def test_a_mistyped_option_is_a_type_error() -> None:
    async with AsyncClient() as client:
        with pytest.raises(TypeError, match="temprature"):
            client.stream("a", temprature=1.0)  # type: ignore[call-arg]


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_no_agent_at_the_address_is_told_at_once_with_what_to_do() -> None:
    address = f"127.0.0.1:{unused_port()}"
    async with AsyncClient(address) as client:
        with pytest.raises(AgentUnavailable, match=address) as caught:
            async with asyncio.timeout(30):
                await client.generate("Hi")
        assert "updraft serve edge" in caught.value.remedy
        with pytest.raises(AgentUnavailable):
            await client.info()


async def test_an_agent_that_starts_later_is_found_by_the_same_client() -> None:
    port = unused_port()
    async with AsyncClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(AgentUnavailable):
            await client.info()
        async with serving(FakeAgent(), port=port):
            async with asyncio.timeout(5):
                while True:
                    try:
                        assert (await client.generate("Hi")).text == "Hello, world!"
                        break
                    except AgentUnavailable:
                        await asyncio.sleep(0.05)


async def test_a_peer_that_never_speaks_costs_the_connect_timeout_only() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with AsyncClient(f"127.0.0.1:{silent.getsockname()[1]}", connect_timeout=0.3) as client:
            with pytest.raises(AgentUnavailable):
                async with asyncio.timeout(30):
                    await client.generate("Hi")


async def test_the_deadline_ends_a_slow_answer_and_frees_the_agent() -> None:
    agent = FakeAgent(["a"] * 1000, delay=0.01)
    async with serving(agent) as address, AsyncClient(address, timeout=60) as client:
        with pytest.raises(LateReply, match=r"within 0\.2 s") as caught:
            await client.generate("Hi", timeout=0.2)
        assert "timeout" in caught.value.remedy
        await eventually(lambda: agent.running == 0)


@pytest.mark.parametrize("address", ["", ":", "host", "127.0.0.1:0", "127.0.0.1:99999", "http://127.0.0.1:7071"])
async def test_addresses_that_are_none_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPDRAFT_AGENT", address or ":")
    async with AsyncClient() as client:
        with pytest.raises(ConfigError):
            await client.info()


async def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(FakeAgent()) as address:
        monkeypatch.setenv("UPDRAFT_AGENT", address)
        async with AsyncClient() as client:
            assert (await client.info())["device"] == "fake"


async def test_the_token_is_sent_and_its_absence_refused() -> None:
    async with serving(FakeAgent(), token="s3cret") as address:
        async with AsyncClient(address, token="s3cret") as client:
            assert (await client.generate("Hi")).text == "Hello, world!"
        for wrong in (None, "other"):
            async with AsyncClient(address, token=wrong) as client:
                with pytest.raises(Unauthenticated):
                    await client.generate("Hi")
                with pytest.raises(Unauthenticated):
                    await client.info()


async def test_eight_streams_at_once_each_get_their_own_answer() -> None:
    agent = FakeAgent(lambda request: list(f"answer to {request.prompt}"), delay=0.001)
    async with serving(agent) as address, AsyncClient(address) as client:
        answers = await asyncio.gather(*(client.generate(f"question {n}") for n in range(8)))
    assert [answer.text for answer in answers] == [f"answer to question {n}" for n in range(8)]
    assert agent.most_running > 1


async def bad_agent(replies: list[bytes]) -> tuple[aio.Server, str]:
    """A server that answers Generate with the given bytes."""

    async def generate(raw: bytes, context: aio.ServicerContext[bytes, bytes]) -> None:
        for reply in replies:
            await context.write(reply)

    server = aio.server()
    handler = grpc.unary_stream_rpc_method_handler(generate)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("updraft.v1.Agent", {"Generate": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    "reply",
    [
        None,
        pb.GenerateEvent(),
        pb.GenerateEvent(token=pb.TokenCommitted(origin="moon")),
        pb.GenerateEvent(finished=pb.Finished(completion_json="{}")),
    ],
)
async def test_an_agent_that_breaks_the_protocol_is_named_so(reply: pb.GenerateEvent | None) -> None:
    server, address = await bad_agent([] if reply is None else [reply.SerializeToString()])
    try:
        async with AsyncClient(address) as client:
            with pytest.raises(ProtocolViolation):
                await client.generate("Hi")
    finally:
        await server.stop(None)


async def test_an_error_class_is_catchable_by_its_parents() -> None:
    for raised, parent in [(PromptTooLong("x"), InvalidRequest), (Overloaded("x"), UpdraftError)]:
        async with serving(FakeAgent(failure=raised)) as address, AsyncClient(address) as client:
            with pytest.raises(parent):
                await client.generate("Hi")
    assert not TokenizerMismatch.retryable
