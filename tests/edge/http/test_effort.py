"""Effort over HTTP: what requests may ask for, progress in the stream, and what an answer says of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.edge.http.clients import CHAT, COMPLETIONS, chat_body, completion_body, events_of, post
from tests.fakes.generator import FakeAgent
from tests.fakes.solutions import PROGRESS, SOLUTION
from updraft.generation import GenerationRequest
from updraft.modes import Effort, Mode, ModeSettings


async def settings_of(**fields: Any) -> ModeSettings | None:
    """What the agent is asked with."""
    agent = FakeAgent()
    response = await post(agent, CHAT, chat_body(**fields))
    assert response.status_code == 200, response.text
    return agent.requests[0].settings


@pytest.mark.parametrize(
    ("given", "effort"),
    [("none", "none"), ("minimal", "none"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "max")],
)
async def test_openais_field_means_an_effort(given: str, effort: str) -> None:
    settings = await settings_of(reasoning_effort=given)
    assert settings is not None and settings.effort == effort
    assert settings.mode is (Mode.DRAFT if effort == "none" else Mode.SOLVE)
    assert await settings_of(reasoning_effort=None) is None


async def test_the_extension_says_more_and_has_the_last_word() -> None:
    key = {"effort": "high", "budget": {"samples": 5, "tokens": 900}, "verifier": "logprob"}
    settings = await settings_of(updraft=key, reasoning_effort="high")
    assert settings is not None and settings.mode is Mode.SOLVE and settings.effort is Effort.HIGH
    assert (settings.budget.samples, settings.budget.tokens, settings.verifier) == (5, 900, "logprob")
    other = await settings_of(updraft={"mode": "cloud"}, reasoning_effort="high")
    assert other is not None and other.mode is Mode.CLOUD and other.effort is None


async def test_two_efforts_that_differ_are_refused() -> None:
    body = chat_body(updraft={"effort": "low"}, reasoning_effort="high")
    response = await post(FakeAgent(), CHAT, body)
    assert response.status_code == 400 and response.json()["error"]["param"] == "reasoning_effort"


@pytest.mark.parametrize("key", [{"effort": "huge"}, {"strategy": "guess"}, {"effort": "low", "verifier": "guess"}])
async def test_names_that_nobody_knows_are_refused(key: dict[str, str]) -> None:
    agent = FakeAgent()
    response = await post(agent, CHAT, chat_body(updraft=key))
    error = response.json()["error"]
    assert (response.status_code, error["code"], agent.requests) == (404, "unknown_name", [])
    assert error["param"] == f"updraft.{[*key][-1]}"


async def test_progress_comes_in_chunks_that_add_no_text() -> None:
    agent = FakeAgent(progress=PROGRESS, solution=SOLUTION)
    body = chat_body(stream=True, updraft={"effort": "high", "progress": True, "alternatives": True})
    chunks = events_of((await post(agent, CHAT, body)).text)[:-1]
    assert agent.requests[0].progress and agent.requests[0].alternatives
    told = [chunk for chunk in chunks if "progress" in chunk.get("updraft", {})]
    assert [chunk["updraft"]["progress"]["kind"] for chunk in told] == [event.kind for event in PROGRESS]
    assert all(chunk["choices"][0]["delta"] == {} and not chunk["choices"][0]["finish_reason"] for chunk in told)
    second = told[1]["updraft"]["progress"]
    assert second == {"kind": "score", "origin": "cloud", "branch": 3, "value": 0.25, "tokens": 40, "seconds": 1.0}
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == "Hello, world!"
    last = chunks[-1]["updraft"]
    assert (last["confidence"], last["verified"], last["strategy"], last["ended"]) == (0.75, True, "rpc", "confident")
    assert last["cost"]["cloud_tokens"] == 60 and last["cost"]["money"] == 0.0
    assert [found["weight"] for found in last["alternatives"]] == [0.75, 0.25]


async def test_completions_stream_progress_too_and_whole_answers_leave_it_out() -> None:
    agent = FakeAgent(progress=PROGRESS, solution=SOLUTION)
    key = {"effort": "low", "progress": True}
    chunks = events_of((await post(agent, COMPLETIONS, completion_body("x", stream=True, updraft=key))).text)[:-1]
    assert sum("progress" in chunk["updraft"] for chunk in chunks) == len(PROGRESS)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Hello, world!"
    whole = (await post(agent, COMPLETIONS, completion_body("x", updraft=key))).json()
    assert whole["choices"][0]["text"] == "Hello, world!" and whole["updraft"]["confidence"] == 0.75
    assert "progress" not in json.dumps(whole)


async def test_other_modes_say_nothing_of_it() -> None:
    answer = (await post(FakeAgent(), CHAT, chat_body())).json()
    assert not {"confidence", "cost", "strategy"} & answer["updraft"].keys()


def by_seed(request: GenerationRequest) -> list[str]:
    """The script's log-probabilities fall with the number of pieces: seed 3 is the best, then 1, 4, 2."""
    seed = request.sampling.seed or 0
    return [f"{seed}"] * {3: 1, 1: 2, 4: 3, 2: 4}[seed]


async def test_the_best_of_several_answers_are_returned_and_all_are_paid_for() -> None:
    agent = FakeAgent(by_seed)
    body = completion_body("ab", best_of=4, n=2, seed=1, temperature=1.0)
    answer = (await post(agent, COMPLETIONS, body)).json()
    assert {request.sampling.seed for request in agent.requests} == {1, 2, 3, 4}
    assert all(request.logprobs for request in agent.requests)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert [choice["logprobs"] for choice in answer["choices"]] == [None, None]
    assert answer["usage"]["completion_tokens"] == 1 + 2 + 3 + 4 and answer["usage"]["prompt_tokens"] == 2
    best = await _means(agent, body)
    assert [choice["text"] for choice in answer["choices"]] == best[:2]


async def _means(agent: FakeAgent, body: dict[str, Any]) -> list[str]:
    """Texts of all candidates, the most probable a token first."""
    every = (await post(agent, COMPLETIONS, body | {"n": 4, "logprobs": 0})).json()["choices"]
    lists = [choice["logprobs"]["token_logprobs"] for choice in every]
    order = sorted(range(4), key=lambda place: -sum(lists[place]) / len(lists[place]))
    return [every[place]["text"] for place in order]


async def test_each_prompt_has_its_own_best() -> None:
    answer = (await post(FakeAgent(), COMPLETIONS, completion_body(["a", "b"], best_of=3, n=1, echo=True))).json()
    assert [choice["text"] for choice in answer["choices"]] == ["aHello, world!", "bHello, world!"]
    assert answer["usage"]["prompt_tokens"] == 2 and answer["usage"]["completion_tokens"] == 2 * 3 * 4


async def test_the_openai_clients_own_parameter_works(serve: Any) -> None:
    from openai import AsyncOpenAI

    from tests.edge.http.clients import app_of

    agent = FakeAgent(progress=PROGRESS, solution=SOLUTION)
    port = serve(app_of(agent))
    async with AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as client:
        stream = await client.chat.completions.create(
            model="fake-pair",
            messages=[{"role": "user", "content": "hi"}],
            reasoning_effort="high",
            stream=True,
            extra_body={"updraft": {"progress": True}},
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == "Hello, world!"
    assert agent.requests[0].settings is not None and agent.requests[0].settings.effort is Effort.HIGH
