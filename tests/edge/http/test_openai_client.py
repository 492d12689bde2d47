"""The `openai` package, unmodified, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.edge.http.clients import app_of
from tests.edge.http.conftest import Serve
from tests.fakes.generator import FakeAgent
from updraft.errors import CloudUnavailable, EngineFailure
from updraft.generation import GenerationRequest

MODEL = "fake-pair"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]


def words(request: GenerationRequest) -> list[str]:
    return ["one", " two", f" {request.sampling.seed}"]


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent(words)


@pytest.fixture
def port(agent: FakeAgent, serve: Serve) -> int:
    return serve(app_of(agent, token="key", max_concurrent=4, body_limit_bytes=10_000))


@pytest.fixture
def client(port: int) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="key", max_retries=0) as client:
        yield client


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "updraft"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, n=2, seed=3, stop="!", temperature=0.7)
    assert [choice.message.content for choice in answer.choices] == ["one two 3", "one two 4"]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
    assert (answer.usage.completion_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (6, 0)
    assert answer.system_fingerprint is not None


def test_an_answers_message_can_be_sent_back(client: openai.OpenAI, agent: FakeAgent) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, seed=3)
    reply: Any = answer.choices[0].message
    client.chat.completions.create(model=MODEL, messages=[*MESSAGES, reply, *MESSAGES])
    client.chat.completions.create(model=MODEL, messages=[*MESSAGES, reply.model_dump(), *MESSAGES])
    for request in agent.requests[1:]:
        assert request.messages is not None
        assert [message.content for message in request.messages] == ["hi", "one two 3", "hi"]


def test_chat_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, logprobs=True, top_logprobs=2)
    scores = answer.choices[0].logprobs
    assert scores is not None and scores.content is not None
    assert [entry.token for entry in scores.content][:2] == ["one", " two"]
    assert scores.content[0].bytes == list(b"one")
    assert len(scores.content[0].top_logprobs) == 2


def test_the_extension(client: openai.OpenAI, agent: FakeAgent) -> None:
    extension = {"updraft": {"mode": "edge", "local_only": True}, "top_k": 5}
    answer: Any = client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_body=extension)
    assert answer.updraft["mode"] == "edge"
    assert [token["origin"] for token in answer.updraft["tokens"]] == ["edge", "cloud", "edge"]
    assert agent.requests[0].settings is not None and agent.requests[0].settings.local_only
    assert agent.requests[0].sampling.top_k == 5


def test_streamed_chat(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model=MODEL, messages=MESSAGES, seed=3, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks: list[Any] = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == "one two 3"
    assert chunks[1].updraft["origin"] == "edge"
    assert chunks[-2].updraft["statistics"]["tokens"] == 3
    assert chunks[-1].usage.completion_tokens == 3


def test_the_packages_own_stream_helper_puts_the_answer_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, seed=3, n=2, logprobs=True) as stream:
        answer = stream.get_final_completion()
    assert [choice.message.content for choice in answer.choices] == ["one two 3", "one two 4"]
    assert answer.choices[1].logprobs is not None and answer.choices[1].logprobs.content is not None
    assert len(answer.choices[1].logprobs.content) == 3


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=["a", "b"], seed=1, logprobs=1, max_tokens=2)
    assert [choice.text for choice in answer.choices] == ["one two"] * 2
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.text_offset == [0, 3]
    assert client.completions.create(model=MODEL, prompt=[1, 2, 3], echo=True, seed=1).choices[0].text.endswith("two 1")


def test_streamed_completions(client: openai.OpenAI) -> None:
    with client.completions.create(model=MODEL, prompt="a", seed=1, stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "one two 1"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_errors_have_the_packages_types(client: openai.OpenAI, port: int) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=-1)
    assert (bad.value.param, bad.value.code, bad.value.type) == (
        "temperature",
        "invalid_request",
        "invalid_request_error",
    )
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.APIStatusError) as large:
        client.completions.create(model=MODEL, prompt="x" * 3_000_000)
    assert large.value.status_code == 413
    with pytest.raises(openai.InternalServerError) as embeddings:
        client.embeddings.create(model=MODEL, input="x")
    assert embeddings.value.status_code == 501
    with (
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


@pytest.mark.parametrize("stream", [False, True])
def test_failures_of_the_agent(client: openai.OpenAI, agent: FakeAgent, stream: bool) -> None:
    agent.failure = CloudUnavailable("No cloud.")
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=stream)
    assert failed.value.status_code == 503


def test_a_failure_in_mid_stream_is_raised_after_what_came_before(client: openai.OpenAI, agent: FakeAgent) -> None:
    agent.failure, agent.fail_after = EngineFailure("It broke."), 2
    seen: list[str] = []
    with (
        pytest.raises(openai.APIError, match="It broke"),
        client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream,
    ):
        seen.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert agent.running == 0


async def test_eight_clients_at_once_each_get_their_own_answer(serve: Serve) -> None:
    port = serve(app_of(FakeAgent(words, delay=0.002)))
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as client:

        async def ask(seed: int) -> str:
            stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, seed=seed, stream=True)
            async with stream:
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        assert await asyncio.gather(*map(ask, range(8))) == [f"one two {seed}" for seed in range(8)]


async def test_too_many_at_once_get_rate_limit_errors_and_retries_succeed(port: int, agent: FakeAgent) -> None:
    agent.delay = 0.1
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="key", max_retries=0) as client:

        async def ask(client: openai.AsyncOpenAI) -> str:
            answer = await client.chat.completions.create(model=MODEL, messages=MESSAGES, seed=1)
            return answer.choices[0].message.content or ""

        results = await asyncio.gather(*(ask(client) for _ in range(6)), return_exceptions=True)
        assert sum(isinstance(result, openai.RateLimitError) for result in results) == 2
        assert results.count("one two 1") == 4
        patient = client.with_options(max_retries=3)
        assert await asyncio.gather(*(ask(patient) for _ in range(6))) == ["one two 1"] * 6


async def test_closing_a_stream_frees_the_generation(port: int, agent: FakeAgent) -> None:
    agent.script, agent.delay = ["x"] * 1000, 0.01
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="key") as client:
        stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        await anext(stream)
        await stream.close()
        for _ in range(200):
            if not agent.running:
                break
            await asyncio.sleep(0.005)
    assert (agent.running, agent.closed_early) == (0, 1)
