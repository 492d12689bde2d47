"""`/v1/completions`: kinds of prompts, echo, and the older shape of log-probabilities."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.http.clients import COMPLETIONS, completion_body, events_of, post
from tests.fakes.generator import FakeAgent
from updraft.generation import GenerationRequest


def by_prompt(request: GenerationRequest) -> list[str]:
    return [f"<{request.prompt or list(request.prompt_tokens or [])}>", f"{request.sampling.seed}"]


async def complete(agent: FakeAgent, prompt: object, **fields: Any) -> dict[str, Any]:
    response = await post(agent, COMPLETIONS, completion_body(prompt, **fields))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("ab", ["<ab>1"]),
        (["ab", "c"], ["<ab>1", "<c>1"]),
        ([5, 6], ["<[5, 6]>1"]),
        ([[5, 6], [7]], ["<[5, 6]>1", "<[7]>1"]),
    ],
)
async def test_prompts_may_be_texts_or_token_ids_one_or_many(prompt: object, texts: list[str]) -> None:
    answer = await complete(FakeAgent(by_prompt), prompt, seed=1)
    assert [choice["text"] for choice in answer["choices"]] == texts
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")


async def test_choices_are_ordered_by_prompt_then_seed() -> None:
    answer = await complete(FakeAgent(by_prompt), ["ab", "c"], n=2, seed=10)
    assert [choice["text"] for choice in answer["choices"]] == ["<ab>10", "<ab>11", "<c>10", "<c>11"]
    assert answer["usage"]["prompt_tokens"] == 3


async def test_many_prompts_run_a_few_at_a_time() -> None:
    agent = FakeAgent(delay=0.002)
    answer = await complete(agent, ["x"] * 20)
    assert len(answer["choices"]) == 20
    assert agent.most_running == 8


async def test_a_stream_carries_text_and_ends_with_the_reason() -> None:
    response = await post(FakeAgent(), COMPLETIONS, completion_body("x", stream=True))
    chunks = events_of(response.text)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == "Hello, world!"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * 4 + ["stop"]
    assert all(chunk["object"] == "text_completion" for chunk in chunks[:-1])
    assert chunks[0]["updraft"]["origin"] == "edge"


@pytest.mark.parametrize(("prompt", "before"), [("ab ", ["ab "]), ([[0xC3, 0xA9], [97]], ["\u00e9", "a"])])
async def test_echo_puts_the_prompt_before_the_answer(prompt: object, before: list[str]) -> None:
    answer = await complete(FakeAgent(["X"]), prompt, echo=True, n=2)
    expected = [text + "X" for text in before for _ in range(2)]
    assert [choice["text"] for choice in answer["choices"]] == expected
    response = await post(FakeAgent(["X"]), COMPLETIONS, completion_body(prompt, echo=True, n=2, stream=True))
    streamed = [""] * len(expected)
    for chunk in events_of(response.text)[:-1]:
        streamed[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert streamed == expected


async def test_echo_of_an_unknown_token_is_refused() -> None:
    response = await post(FakeAgent(), COMPLETIONS, completion_body([10**6], echo=True))
    assert response.status_code == 400


async def test_echo_with_logprobs_scores_the_prompt_before_the_answer() -> None:
    [choice] = (await complete(FakeAgent(["X"]), "ab ", echo=True, logprobs=1))["choices"]
    assert choice["text"] == "ab X"
    scores = choice["logprobs"]
    assert scores["tokens"] == ["a", "b", " ", "X"]
    assert scores["token_logprobs"] == [None, -0.1, -0.2, -0.5]
    assert scores["text_offset"] == [0, 1, 2, 3]
    assert scores["top_logprobs"][:2] == [None, {"a": -2.0, "b": -0.1}]


async def test_echo_without_an_answer_scores_each_prompt_once() -> None:
    agent = FakeAgent(["X"])
    answer = await complete(agent, [[97, 98], [99]], echo=True, logprobs=0, max_tokens=0, n=2)
    assert [choice["text"] for choice in answer["choices"]] == ["ab", "ab", "c", "c"]
    assert [choice["logprobs"]["token_logprobs"] for choice in answer["choices"]] == [[None, -0.1]] * 2 + [[None]] * 2
    assert agent.requests == []
    assert answer["usage"] | {"prompt_tokens_details": None} == {
        "prompt_tokens": 3,
        "completion_tokens": 0,
        "total_tokens": 3,
        "prompt_tokens_details": None,
    }


async def test_streamed_echo_with_logprobs_is_the_whole_one() -> None:
    [whole] = (await complete(FakeAgent(["X"]), "ab", echo=True, logprobs=1))["choices"]
    response = await post(FakeAgent(["X"]), COMPLETIONS, completion_body("ab", echo=True, logprobs=1, stream=True))
    chunks = [chunk["choices"][0] for chunk in events_of(response.text)[:-1]]
    assert "".join(chunk["text"] for chunk in chunks) == whole["text"]
    scored = [chunk["logprobs"] for chunk in chunks if chunk["logprobs"]]
    assert [part["token_logprobs"][0] for part in scored] == whole["logprobs"]["token_logprobs"]
    assert [part["text_offset"][0] for part in scored] == whole["logprobs"]["text_offset"]


async def test_the_prompts_tokens_are_not_labelled_as_the_answers() -> None:
    answer = await complete(FakeAgent(["X"]), "ab", echo=True, logprobs=1)
    assert [token["text"] for token in answer["updraft"]["tokens"]] == ["X"]


PIECES: list[str | bytes] = ["H\u00e9", b"\xe2\x82", b"\xac", " x"]


async def test_logprobs_give_tokens_and_where_they_begin() -> None:
    scores = (await complete(FakeAgent(PIECES), "x", logprobs=2))["choices"][0]["logprobs"]
    assert scores["tokens"] == ["H\u00e9", "bytes:\\xe2\\x82", "bytes:\\xac", " x"]
    assert scores["token_logprobs"] == [-0.5] * 4
    assert scores["text_offset"] == [0, 2, 2, 3]
    assert scores["top_logprobs"][3] == {" x": -0.5, "bytes:\\xff": -9999.0}


async def test_logprobs_0_lists_the_token_alone() -> None:
    scores = (await complete(FakeAgent(["a"]), "x", logprobs=0))["choices"][0]["logprobs"]
    assert scores["top_logprobs"] == [{"a": -0.5}]


async def test_streamed_logprobs_are_those_of_the_whole_answer() -> None:
    whole = (await complete(FakeAgent(PIECES), "x", logprobs=1))["choices"][0]["logprobs"]
    response = await post(FakeAgent(PIECES), COMPLETIONS, completion_body("x", logprobs=1, stream=True))
    parts = [chunk["choices"][0]["logprobs"] for chunk in events_of(response.text)[:-1]]
    assert parts[-1] is None
    assert {name: [part[name][0] for part in parts[:-1]] for name in whole} == whole


@pytest.mark.parametrize(
    "prompt", [None, 5, [], [[]], ["a", 1], [1, "a"], [[1], "a"], [True], [-1], [1.5], [2**31], ["x"] * 65, {"a": 1}]
)
async def test_other_prompts_are_refused_by_name(prompt: object) -> None:
    agent = FakeAgent()
    response = await post(agent, COMPLETIONS, completion_body(prompt))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "prompt"
    assert agent.requests == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"best_of": 1}, 200),
        ({"best_of": 2, "n": 2}, 200),
        ({"best_of": 3}, 200),
        ({"best_of": 3, "n": 2}, 200),
        ({"best_of": 1, "n": 2}, 400),
        ({"best_of": 21}, 400),
        ({"best_of": 0}, 400),
        ({"best_of": 2, "stream": True}, 400),
        ({"best_of": 2, "n": 2, "stream": True}, 200),
        ({"best_of": True}, 400),
        ({"suffix": None}, 200),
        ({"suffix": ""}, 200),
        ({"suffix": "end"}, 400),
        ({"echo": False, "logprobs": 1}, 200),
        ({"echo": True, "logprobs": 1}, 200),
        ({"max_tokens": 0}, 400),
        ({"max_tokens": 0, "echo": True}, 200),
        ({"logprobs": 6}, 400),
        ({"logprobs": True}, 400),
        ({"max_completion_tokens": 5}, 400),
        ({"messages": []}, 400),
    ],
)
async def test_fields_of_this_endpoint(fields: dict[str, Any], status: int) -> None:
    response = await post(FakeAgent(), COMPLETIONS, completion_body("x", **fields))
    assert response.status_code == status, response.text
