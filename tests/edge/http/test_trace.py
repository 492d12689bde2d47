"""`updraft.trace` asks for every decision of an answer."""

from __future__ import annotations

from tests.edge.http.clients import CHAT, chat_body, post
from tests.fakes.generator import FakeAgent
from updraft.modes import Mode


async def test_a_trace_is_given_where_it_is_asked_for() -> None:
    agent = FakeAgent(["a", "b"])
    body = chat_body(updraft={"mode": "edge", "trace": True})
    label = (await post(agent, CHAT, body)).json()["updraft"]
    assert [step["kind"] for step in label["trace"]["steps"]] == ["commit", "hand_over"]
    (request,) = agent.requests
    assert request.trace and request.settings is not None and request.settings.mode is Mode.EDGE


async def test_answers_say_nothing_of_it_otherwise() -> None:
    label = (await post(FakeAgent(), CHAT, chat_body(updraft={"trace": False}))).json()["updraft"]
    assert "trace" not in label and "chosen" not in label


async def test_only_true_and_false_are_taken() -> None:
    response = await post(FakeAgent(), CHAT, chat_body(updraft={"trace": "yes"}))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "updraft.trace"
