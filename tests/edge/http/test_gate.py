"""Who may come in, how many at once, and what errors look like."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from starlette.types import Message

from tests.edge.http.clients import CHAT, app_of, chat_body, client_of, post
from tests.fakes.generator import FakeAgent
from updraft.errors import (
    Cancelled,
    CloudUnavailable,
    EngineFailure,
    LateReply,
    Overloaded,
    PromptTooLong,
    TokenizerMismatch,
    UpdraftError,
)
from updraft.generation import Completion, GenerationRequest, TokenEvent
from updraft_edge.metrics import EdgeMetrics

PATHS = ["/v1/models", "/v1/models/fake-pair", "/v1/info", "/version", "/metrics", "/nowhere"]
HEALTH = ["/healthz", "/health", "/readyz"]


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic s\u00e9cret", "s\u00e9cret"])
async def test_a_token_is_asked_for_everywhere_but_at_health_checks(header: str | None) -> None:
    agent = FakeAgent()
    headers = {} if header is None else {b"authorization": header.encode()}
    async with client_of(app_of(agent, token="s\u00e9cret", metrics=EdgeMetrics())) as client:
        for path in PATHS:
            response = await client.get(path, headers=headers)
            assert response.status_code == 401, path
            assert response.headers["www-authenticate"] == "Bearer"
        assert (await client.post(CHAT, json=chat_body(), headers=headers)).status_code == 401
        for path in HEALTH:
            assert (await client.get(path, headers=headers)).status_code == 200
    assert response.json()["error"]["type"] == "authentication_error"
    assert agent.requests == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_the_right_token_opens_everything(scheme: str) -> None:
    headers = {b"authorization": f"{scheme} s\u00e9cret".encode()}
    async with client_of(app_of(FakeAgent(), token="s\u00e9cret", metrics=EdgeMetrics())) as client:
        for path in PATHS[:-1]:
            assert (await client.get(path, headers=headers)).status_code == 200, path
        assert (await client.post(CHAT, json=chat_body(), headers=headers)).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:7070", "127.0.0.1:7070", "127.8.8.8", "[::1]", "[::1]:7070"])
async def test_loopback_hosts_are_served(host: str) -> None:
    async with client_of(app_of(FakeAgent())) as client:
        assert (await client.get("/v1/models", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:7070", "127.0.0.1.evil.example", "10.0.0.1", "[::2]", "[", ""]
)
async def test_a_rebound_name_is_refused_without_a_token(host: str) -> None:
    async with client_of(app_of(FakeAgent())) as client:
        response = await client.get("/v1/models", headers={"host": host})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "host_not_allowed"


async def test_with_a_token_any_host_is_served() -> None:
    headers = {"host": "agent.example", "authorization": "Bearer t"}
    async with client_of(app_of(FakeAgent(), token="t")) as client:
        assert (await client.get("/v1/models", headers=headers)).status_code == 200


async def test_beyond_loopback_the_host_may_be_any() -> None:
    # The scope's server address is where the connection arrived; ASGITransport takes it from the URL.
    async with client_of(app_of(FakeAgent()), "http://192.0.2.7") as client:
        assert (await client.get("/v1/models", headers={"host": "agent.example"})).status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost:3000", 200), ("http://[::1]", 200), ("https://evil.example", 403), ("null", 403), ("", 403)],
)
async def test_pages_of_other_sites_are_refused(origin: str, status: int) -> None:
    agent = FakeAgent()
    async with client_of(app_of(agent)) as client:
        response = await client.post(CHAT, json=chat_body(), headers={"origin": origin})
    assert response.status_code == status
    assert len(agent.requests) == (status == 200)
    assert not any(name.startswith("access-control") for name in response.headers)


async def test_one_request_too_many_is_refused_before_any_work() -> None:
    agent = FakeAgent(delay=0.05)
    async with client_of(app_of(agent, max_concurrent=2)) as client:
        running = [asyncio.create_task(client.post(CHAT, json=chat_body())) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert agent.running == 2
        response = await client.post(CHAT, content=b"not even JSON")
        assert response.status_code == 429
        assert response.headers["retry-after"] == "1"
        assert response.json()["error"]["type"] == "rate_limit_error"
        assert [(await task).status_code for task in running] == [200, 200]
        assert (await client.post(CHAT, json=chat_body())).status_code == 200
    assert len(agent.requests) == 3


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", [chat_body(n=99), chat_body()])
async def test_places_are_given_back_after_failures(stream: bool, body: dict[str, object]) -> None:
    async with client_of(app_of(FakeAgent(failure=EngineFailure("broken")), max_concurrent=1)) as client:
        statuses = [(await client.post(CHAT, json=body | {"stream": stream})).status_code for _ in range(3)]
    assert len(set(statuses)) == 1 and statuses[0] in {400, 500}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (PromptTooLong("The prompt has 9 tokens."), 400, None),
        (TokenizerMismatch("They differ."), 409, None),
        (Overloaded("Busy."), 429, "1"),
        (EngineFailure("It broke."), 500, None),
        (CloudUnavailable("No cloud."), 503, "1"),
        (LateReply("Too late."), 504, None),
        (Cancelled("Stopped."), 503, "1"),
    ],
)
async def test_the_agents_errors_get_their_status_also_before_a_stream(
    error: UpdraftError, status: int, retry: str | None, stream: bool
) -> None:
    response = await post(FakeAgent(failure=error), CHAT, chat_body(stream=stream, n=2))
    assert response.status_code == status
    assert response.headers.get("retry-after") == retry
    body = response.json()["error"]
    assert body["code"] == error.code
    assert body["message"].startswith(error.message)
    if not isinstance(error, Cancelled):
        assert body["message"].endswith(error.remedy)


async def test_an_answer_that_the_agent_cancelled_is_an_error_to_a_client_that_is_there() -> None:
    response = await post(FakeAgent(cancel_after=2), CHAT, chat_body())
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "cancelled"


class Breaking(FakeAgent):
    """Breaks the contract: its generations end without a completion."""

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TokenEvent | Completion]:
        async for event in super().generate(request):
            if isinstance(event, TokenEvent):
                yield event


async def test_a_generation_without_an_end_is_a_failure() -> None:
    response = await post(Breaking(), CHAT, chat_body())
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "engine_failure"


async def test_the_server_starts_and_stops_under_asgis_lifespan() -> None:
    app = app_of(FakeAgent())
    sent: list[str] = []
    incoming = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Message:
        return {"type": next(incoming)}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("fail_after", [0, 2])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_unexpected_error_is_logged_without_its_message(
    caplog: pytest.LogCaptureFixture, stream: bool, fail_after: int
) -> None:
    agent = FakeAgent(failure=ValueError("the secret prompt"), fail_after=fail_after)
    with caplog.at_level(logging.DEBUG):
        response = await post(agent, CHAT, chat_body(stream=stream, messages=[{"role": "user", "content": "secret"}]))
    assert response.status_code == (200 if stream and fail_after else 500)
    assert "server_error" in response.text and "secret" not in response.text
    assert "ValueError" in caplog.text and "generator.py" in caplog.text
    assert "secret" not in caplog.text


async def test_an_agent_that_is_not_ready_says_so() -> None:
    agent = FakeAgent(ready=False)
    async with client_of(app_of(agent)) as client:
        for response in (await client.get("/readyz"), await client.post(CHAT, json=chat_body())):
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"
            assert response.json()["error"]["code"] == "not_ready"
        assert (await client.get("/healthz")).status_code == 200
        agent.ready = True
        assert (await client.get("/readyz")).status_code == 200


async def test_the_small_pages() -> None:
    agent = FakeAgent()
    async with client_of(app_of(agent, metrics=EdgeMetrics())) as client:
        assert (await client.get("/v1/info")).json() == agent.info()
        assert (await client.get("/version")).json() == {"version": "0.0.0"}
        assert (await client.get("/health")).json() == {"status": "ok"}
        (model,) = (await client.get("/v1/models")).json()["data"]
        assert (model["id"], model["object"], model["max_model_len"]) == ("fake-pair", "model", 2048)
        metrics = await client.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=")
        assert "updraft_requests_running 0.0" in metrics.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/embeddings", 501, "not_supported"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("POST", CHAT + "/", 404, "not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("OPTIONS", CHAT, 405, "method_not_allowed"),
        ("GET", "/v1/models/no/such", 404, "model_not_found"),
        ("GET", "/metrics", 404, "not_found"),
    ],
)
async def test_what_there_is_not_is_said_in_openais_shape(method: str, path: str, status: int, code: str) -> None:
    async with client_of(app_of(FakeAgent())) as client:
        response = await client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert (response.headers.get("allow") == "POST") == (status == 405)
