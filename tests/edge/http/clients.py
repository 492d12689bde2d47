"""Requests and in-process clients for the tests of the HTTP server."""

from __future__ import annotations

import json
from typing import Any

import httpx
from starlette.applications import Starlette

from tests.fakes.generator import FakeAgent
from updraft_edge.http import create_app

__all__ = ["CHAT", "COMPLETIONS", "app_of", "chat_body", "client_of", "completion_body", "events_of", "post"]

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def app_of(agent: FakeAgent, *, body_limit_bytes: int = 100_000, max_concurrent: int = 16, **options: Any) -> Starlette:
    return create_app(agent, body_limit_bytes=body_limit_bytes, max_concurrent=max_concurrent, **options)


def client_of(app: Starlette, base_url: str = "http://127.0.0.1") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base_url)


async def post(agent: FakeAgent, path: str, body: object, **options: Any) -> httpx.Response:
    """One request to a server of its own."""
    async with client_of(app_of(agent, **options)) as client:
        return await client.post(path, json=body)


def chat_body(**fields: Any) -> dict[str, Any]:
    return {"model": "fake-pair", "messages": [{"role": "user", "content": "hi"}], **fields}


def completion_body(prompt: object, **fields: Any) -> dict[str, Any]:
    return {"model": "fake-pair", "prompt": prompt, **fields}


def events_of(text: str) -> list[Any]:
    """The data of a server-sent event stream, decoded; the closing [DONE] as a string."""
    data = [block.removeprefix("data: ") for block in text.split("\n\n") if block.startswith("data: ")]
    return [item if item == "[DONE]" else json.loads(item) for item in data]
