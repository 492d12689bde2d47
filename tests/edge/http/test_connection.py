"""Real connections: clients that go away or do not read, long waits, failures in mid-stream."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.edge.http.clients import CHAT, app_of, chat_body, events_of, post
from tests.edge.http.conftest import Serve
from tests.fakes.generator import FakeAgent
from updraft.errors import CloudUnavailable
from updraft_edge.http import streaming

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def asking(port: int, **fields: object) -> AsyncIterator[Stream]:
    """An open connection on which a chat request was sent; closed hard at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
    body = json.dumps(chat_body(**fields)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    try:
        yield reader, writer
    finally:
        writer.close()


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for a condition, less long than what the tests cut short would last."""
    start = time.perf_counter()
    while not condition():
        assert time.perf_counter() - start < seconds
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
async def test_a_client_that_goes_away_frees_its_generations_at_once(serve: Serve, stream: bool, n: int) -> None:
    agent = FakeAgent(["x"] * 1000, delay=0.02)
    port = serve(app_of(agent, max_concurrent=1))
    async with asking(port, stream=stream, n=n) as (reader, _):
        await until(lambda: agent.running == n)
        if stream:
            await reader.readuntil(b'"content":"x"')
    await until(lambda: agent.running == 0)
    assert agent.closed_early == n
    agent.script = ["done"]
    async with asking(port, stream=stream) as (reader, _):  # its place is free again
        assert b" 200 " in await reader.readline()


async def test_a_client_that_goes_away_before_the_first_token_frees_its_generation(serve: Serve) -> None:
    agent = FakeAgent(delay=30)
    async with asking(serve(app_of(agent)), stream=True):
        await until(lambda: agent.running == 1)
    await until(lambda: agent.running == 0)


async def test_a_client_that_never_reads_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "WRITE_SECONDS", 0.2)
    agent = FakeAgent(["x" * 20_000] * 5000)
    async with asking(serve(app_of(agent)), stream=True) as (reader, _):
        await until(lambda: agent.running == 1)
        await until(lambda: agent.running == 0)
        assert agent.closed_early == 1
        assert not reader.at_eof()


async def test_a_slow_reader_holds_the_generation_back(serve: Serve) -> None:
    agent = FakeAgent(["x" * 20_000] * 2000)
    async with asking(serve(app_of(agent)), stream=True) as (reader, _):
        await until(lambda: agent.running == 1)
        await asyncio.sleep(0.3)
        assert agent.running == 1  # 40 MB do not fit into buffers, so it waits
        received = bytearray()
        while b"[DONE]" not in received[-100:]:
            received += await reader.read(2**20)
        assert agent.running == 0
    assert received.count(b'"content":"x') == 2000
    assert agent.closed_early == 0


async def test_a_comment_is_sent_while_there_is_nothing_else(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "KEEPALIVE_SECONDS", 0.02)
    async with asking(serve(app_of(FakeAgent(["a", "b"], delay=0.15))), stream=True) as (reader, _):
        text = (await asyncio.wait_for(reader.readuntil(b"[DONE]"), 5)).decode()
    assert text.count(": keepalive") >= 4
    assert text.index(": keepalive") < text.index('"content":"a"')


async def test_a_failure_after_the_first_comment_is_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "KEEPALIVE_SECONDS", 0.01)
    agent = FakeAgent(["a", "b"], delay=0.05, failure=CloudUnavailable("No cloud."), fail_after=1)
    response = await post(agent, CHAT, chat_body(stream=True))
    assert events_of(response.text)[-1]["error"]["code"] == "cloud_unavailable"


async def test_a_failure_in_mid_stream_is_the_last_event() -> None:
    agent = FakeAgent(failure=CloudUnavailable("No cloud."), fail_after=2)
    response = await post(agent, CHAT, chat_body(stream=True))
    *chunks, last = events_of(response.text)
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", "Hello", ","]
    assert last["error"]["message"].startswith("No cloud.")
    assert "[DONE]" not in response.text


async def test_the_failure_of_one_choice_ends_the_others() -> None:
    agent = FakeAgent(["x"] * 50, delay=0.001, failure=CloudUnavailable("No cloud."), fail_after=20)
    response = await post(agent, CHAT, chat_body(stream=True, n=3))
    assert events_of(response.text)[-1]["error"]["code"] == "cloud_unavailable"
    assert agent.running == 0


async def test_a_stream_that_the_agent_cancelled_ends_in_an_error() -> None:
    response = await post(FakeAgent(cancel_after=2), CHAT, chat_body(stream=True))
    assert events_of(response.text)[-1]["error"]["code"] == "cancelled"
    assert '"finish_reason":"cancelled"' not in response.text


async def test_the_connection_serves_the_next_request(serve: Serve) -> None:
    async with asking(serve(app_of(FakeAgent())), stream=True) as (reader, writer):
        for _ in range(2):
            assert b" 200 " in await reader.readline()
            await reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")
            body = json.dumps(chat_body(stream=True)).encode()
            writer.write(
                f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            )
