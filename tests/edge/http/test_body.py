"""Request bodies: bounded while they are read, then strictly UTF-8 and JSON."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.edge.http.clients import CHAT, app_of, chat_body, client_of
from tests.edge.http.conftest import Serve
from tests.fakes.generator import FakeAgent
from updraft_edge.http import body as body_module

LIMIT = 5_000


async def send(body: bytes | AsyncIterator[bytes], agent: FakeAgent | None = None) -> httpx.Response:
    async with client_of(app_of(agent or FakeAgent(), body_limit_bytes=LIMIT)) as client:
        return await client.post(CHAT, content=body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"model": "fake-pair"} x', "not JSON"),
        (b"[1]", "a JSON array"),
        (b"null", "a JSON null"),
        (b'"x"', "a JSON string"),
        (b"3", "a JSON number"),
        (b"true", "a JSON boolean"),
        (b'{"temperature": NaN}', "NaN"),
        (b'{"temperature": -Infinity}', "-Infinity"),
        (b'{"model": "\xff"}', "not UTF-8 at byte 11"),
        (b'{"model": "\\ud800"}', "surrogate"),
        (b'{"\\uDC00x": 1}', "surrogate"),
        ("\ufeff{}".encode(), "not JSON"),
        ('{"model": "fake-pair"}'.encode("utf-16"), "not UTF-8"),
        (b'{"seed": ' + b"9" * 4500 + b"}", "too many digits"),
    ],
)
async def test_what_is_no_json_object_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    response = await send(body)
    assert response.status_code == 400
    assert reason in response.json()["error"]["message"]


async def test_deep_nesting_is_refused() -> None:
    async with client_of(app_of(FakeAgent(), body_limit_bytes=10**6)) as client:
        response = await client.post(CHAT, content=b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    assert response.status_code == 400
    assert "deep" in response.json()["error"]["message"]


async def test_infinity_by_exponent_is_refused() -> None:
    body = json.dumps(chat_body()).replace("}", ', "temperature": 1e999}').encode()
    assert (await send(body)).status_code == 400


async def test_whole_surrogate_pairs_and_control_characters_are_text() -> None:
    agent = FakeAgent()
    content = "\U0001f600\x00\x1b\u2028"
    body = json.dumps(chat_body(messages=[{"role": "user", "content": content}]))
    assert "\\ud83d" in body
    assert (await send(body.encode(), agent)).status_code == 200
    assert agent.requests[0].messages is not None
    assert agent.requests[0].messages[0].content == content


def padded(length: int) -> bytes:
    body = json.dumps(chat_body(user="")).encode()
    return body.replace(b'"user": ""', b'"user": "' + b"x" * (length - len(body)) + b'"')


@pytest.mark.parametrize("announced", [True, False])
async def test_the_limit_holds_to_the_byte(announced: bool) -> None:
    async def chunks(body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 999):
            yield body[start : start + 999]

    for length, status in ((LIMIT, 200), (LIMIT + 1, 413)):
        body = padded(length)
        assert len(body) == length
        response = await send(body if announced else chunks(body))
        assert response.status_code == status
    assert response.json()["error"]["code"] == "request_too_large"
    assert "5000" in response.json()["error"]["message"]


async def test_a_body_without_end_is_refused_on_a_real_connection(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_module, "DISCARD_SECONDS", 0.1)
    agent = FakeAgent()
    port = serve(app_of(agent, body_limit_bytes=LIMIT))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    for _ in range(20):
        writer.write(b"3e8\r\n" + b" " * 1000 + b"\r\n")
    await writer.drain()
    status = await asyncio.wait_for(reader.readline(), 5)
    assert b" 413 " in status
    assert agent.requests == []
    writer.close()


async def test_a_large_body_is_told_why_on_a_real_connection(serve: Serve) -> None:
    port = serve(app_of(FakeAgent(), body_limit_bytes=LIMIT))
    async with httpx.AsyncClient() as client:
        response = await client.post(f"http://127.0.0.1:{port}{CHAT}", content=b"x" * 8_000_000)
    assert response.status_code == 413


async def test_a_body_that_does_not_arrive_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "BODY_SECONDS", 0.05)
    port = serve(app_of(FakeAgent()))
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nabc".encode())
        assert b" 400 " in connection.recv(1000)
