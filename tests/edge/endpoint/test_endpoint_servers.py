"""Answers of an endpoint on their way out: HTTP, gRPC, metrics and traces have no number for what it does not tell."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx

from tests.edge.endpoint.test_endpoint import TEXT, letters
from tests.fakes.byte_engine import byte_engine
from tests.fakes.endpoint import FakeEndpoint, stream
from updraft.client import AsyncClient
from updraft.config import EdgeSettings, EndpointSettings, ListenSettings, RulesSettings
from updraft_edge.agent import Agent
from updraft_edge.server import EdgeServer

ANY_PORT = ListenSettings(port=0)


def settings_for(endpoint: FakeEndpoint, **changes: Any) -> EdgeSettings:
    table = EndpointSettings(url=endpoint.url, model="big")
    return EdgeSettings(endpoint=table, http=ANY_PORT, grpc=ANY_PORT, **changes)


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


async def test_unknown_numbers_are_null_over_http_and_nan_over_grpc() -> None:
    async with FakeEndpoint([stream(*letters(TEXT), usage=(9, 8))]) as endpoint:
        settings = settings_for(endpoint, rules=RulesSettings(keep_local=()))
        async with Agent(settings, engine=byte_engine()) as agent, EdgeServer(settings, agent=agent) as server:
            body = {
                "model": "updraft",
                "messages": [{"role": "user", "content": "hi"}],
                "logprobs": True,
                "top_logprobs": 2,
                "max_tokens": 100,
                "updraft": {"mode": "cloud"},
            }
            async with httpx.AsyncClient(base_url=f"http://{server.http_address}/v1", trust_env=False) as client:
                whole = await client.post("chat/completions", json=body)
                streamed = await client.post("chat/completions", json=body | {"stream": True})
            answer = json.loads(whole.content, parse_constant=refuse)
            chunks = [
                json.loads(line.removeprefix("data: "), parse_constant=refuse)
                for line in streamed.text.splitlines()
                if line.startswith("data: {")
            ]
            async with AsyncClient(server.grpc_address) as sdk:
                completion = await sdk.generate("hi", mode="cloud", max_tokens=100)
            metrics = agent.metrics.render().decode()
    assert answer["choices"][0]["message"]["content"] == completion.text == TEXT
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]) == TEXT
    token = answer["updraft"]["tokens"][0]
    assert (token["origin"], token["verified"], token["logprob"], token["entropy"]) == ("cloud", True, None, None)
    assert answer["choices"][0]["logprobs"]["content"][0]["logprob"] is None
    assert answer["updraft"]["statistics"]["endpoint_prompt_tokens"] == 9
    assert answer["updraft"]["withheld"] is None
    assert "nan" not in metrics.lower()
    assert math.isfinite(completion.statistics.cost)


async def test_what_a_rule_kept_shows_in_answers_and_metrics() -> None:
    async with FakeEndpoint([stream("x")]) as endpoint:
        settings = settings_for(endpoint)
        async with Agent(settings, engine=byte_engine()) as agent, EdgeServer(settings, agent=agent) as server:
            body = {
                "model": "updraft",
                "messages": [{"role": "user", "content": "mail me@home.example"}],
                "max_tokens": 4,
                "updraft": {"mode": "cloud"},
            }
            async with httpx.AsyncClient(base_url=f"http://{server.http_address}/v1", trust_env=False) as client:
                answer = (await client.post("chat/completions", json=body)).json()
            metrics = agent.metrics.render().decode()
    assert (answer["updraft"]["withheld"], answer["updraft"]["degraded"]) == ("emails", False)
    assert 'updraft_withheld_total{rule="emails"} 1.0' in metrics
    assert endpoint.connections == 0


async def test_a_refusal_is_403_and_says_which_rule() -> None:
    async with FakeEndpoint([stream("x")]) as endpoint:
        settings = settings_for(endpoint, rules=RulesSettings(action="refuse"))
        async with Agent(settings, engine=byte_engine()) as agent, EdgeServer(settings, agent=agent) as server:
            body = {"model": "updraft", "prompt": "mail me@home.example", "updraft": {"mode": "cloud"}}
            async with httpx.AsyncClient(base_url=f"http://{server.http_address}/v1", trust_env=False) as client:
                refused = await client.post("completions", json=body)
    assert refused.status_code == 403
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("withheld", "permission_error")
    assert "emails" in error["message"] and "home.example" not in error["message"]
