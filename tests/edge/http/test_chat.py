"""`/v1/chat/completions`: shapes, whole and streamed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.http.clients import CHAT, chat_body, events_of, post
from tests.fakes.generator import FakeAgent
from updraft.generation import GenerationRequest

CHOPPED: list[str | bytes] = ["H\u00e9", b"\xe2\x82", b"\xac", " x\n\n", "\u2028y"]
CHOPPED_TEXT = "H\u00e9\u20ac x\n\n\u2028y"


async def stream(agent: FakeAgent, **fields: Any) -> list[Any]:
    response = await post(agent, CHAT, chat_body(stream=True, **fields))
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    return events_of(response.text)


def content_of(chunks: list[Any], index: int = 0) -> str:
    choices = [choice for chunk in chunks[:-1] for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content", "") for choice in choices)


async def test_a_whole_answer_has_openais_shape_and_the_extension() -> None:
    answer = (await post(FakeAgent(), CHAT, chat_body(seed=7))).json()
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["system_fingerprint"].startswith("fp_")
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello, world!", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 4,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    label = answer["updraft"]
    assert (label["mode"], label["degraded"], label["seed"], label["cloud_share"]) == ("draft", False, 7, 0.5)
    assert label["statistics"]["cloud_tokens"] == 2
    assert label["statistics"]["tokens_per_second"] > 0
    assert label["tokens"][1] == {
        "token": 257,
        "text": ",",
        "origin": "cloud",
        "verified": True,
        "layer": None,
        "entropy": 1.25,
        "logprob": -0.5,
    }


async def test_a_degraded_answer_says_so_and_why() -> None:
    agent = FakeAgent(degraded_reason="cloud_unavailable")
    label = (await post(agent, CHAT, chat_body())).json()["updraft"]
    assert (label["degraded"], label["degraded_reason"]) == (True, "cloud_unavailable")


async def test_streamed_deltas_concatenate_to_the_whole_text() -> None:
    whole = (await post(FakeAgent(CHOPPED), CHAT, chat_body())).json()["choices"][0]["message"]["content"]
    chunks = await stream(FakeAgent(CHOPPED))
    assert whole == content_of(chunks) == CHOPPED_TEXT


async def test_a_stream_begins_with_the_role_and_ends_with_the_reason() -> None:
    chunks = await stream(FakeAgent())
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all("role" not in chunk["choices"][0]["delta"] for chunk in chunks[1:-1])
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * 5 + ["stop"]
    assert chunks[-2]["choices"][0]["delta"] == {}
    assert chunks[-1] == "[DONE]"
    assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in chunks[:-1]}) == 1
    assert chunks[0]["object"] == "chat.completion.chunk"


async def test_chunks_carry_origins_and_the_last_one_the_statistics() -> None:
    chunks = await stream(FakeAgent())
    labels = [chunk["updraft"] for chunk in chunks[1:5]]
    assert [(label["index"], label["token"], label["origin"], label["verified"]) for label in labels] == [
        (0, 256, "edge", False),
        (1, 257, "cloud", True),
        (2, 258, "edge", False),
        (3, 259, "cloud", True),
    ]
    assert all(label["entropy"] == 1.25 and label["seconds"] >= 0 for label in labels)
    assert chunks[5]["updraft"]["statistics"]["tokens"] == 4
    assert chunks[5]["updraft"]["mode"] == "draft"


async def test_tokens_inside_a_character_are_streamed_only_with_logprobs() -> None:
    without = await stream(FakeAgent(CHOPPED))
    assert [chunk["updraft"]["index"] for chunk in without[1:-2]] == [0, 2, 3, 4]
    scored = await stream(FakeAgent(CHOPPED), logprobs=True)
    entries = [chunk["choices"][0]["logprobs"]["content"][0] for chunk in scored[1:-2]]
    assert b"".join(bytes(entry["bytes"]) for entry in entries).decode() == CHOPPED_TEXT
    assert content_of(scored) == CHOPPED_TEXT


async def test_a_stream_is_ascii_so_that_no_client_breaks_a_line_at_u2028() -> None:
    response = await post(FakeAgent(CHOPPED), CHAT, chat_body(stream=True))
    assert response.content.isascii()


async def test_usage_is_streamed_on_request_only() -> None:
    chunks = await stream(FakeAgent(), stream_options={"include_usage": True})
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"]["total_tokens"] == 6
    assert all(chunk["usage"] is None for chunk in chunks[:-2])
    assert all("usage" not in chunk for chunk in (await stream(FakeAgent()))[:-1])


async def test_logprobs_name_the_alternatives_with_their_bytes() -> None:
    answer = (await post(FakeAgent(["\u00e9"]), CHAT, chat_body(logprobs=True, top_logprobs=3))).json()
    (entry,) = answer["choices"][0]["logprobs"]["content"]
    assert (entry["token"], entry["bytes"], entry["logprob"]) == ("\u00e9", [0xC3, 0xA9], -0.5)
    assert [top["bytes"] for top in entry["top_logprobs"]] == [[0xC3, 0xA9], [0xFF], [ord("a")]]
    assert entry["top_logprobs"][1]["logprob"] == -9999.0  # of probability 0; JSON has no infinity


async def test_logprobs_without_alternatives() -> None:
    answer = (await post(FakeAgent(), CHAT, chat_body(logprobs=True))).json()
    assert [entry["top_logprobs"] for entry in answer["choices"][0]["logprobs"]["content"]] == [[]] * 4


def by_seed(request: GenerationRequest) -> list[str]:
    return ["seed ", str(request.sampling.seed)]


async def test_choices_draw_with_consecutive_seeds_and_carry_their_own_label() -> None:
    answer = (await post(FakeAgent(by_seed), CHAT, chat_body(n=3, seed=2**64 - 2))).json()
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    assert texts == [f"seed {2**64 - 2}", f"seed {2**64 - 1}", "seed 0"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert [choice["updraft"]["seed"] for choice in answer["choices"]] == [2**64 - 2, 2**64 - 1, 0]
    assert "updraft" not in answer
    assert answer["usage"]["prompt_tokens"] == 2  # the prompt counts once
    assert answer["usage"]["completion_tokens"] == 6


async def test_choices_run_at_the_same_time() -> None:
    agent = FakeAgent(delay=0.01)
    await post(agent, CHAT, chat_body(n=8))
    assert agent.most_running == 8


async def test_streamed_choices_are_told_apart_by_their_index() -> None:
    chunks = await stream(FakeAgent(by_seed, delay=0.001), n=2, seed=5)
    assert content_of(chunks, 0) == "seed 5"
    assert content_of(chunks, 1) == "seed 6"
    assert [chunk["choices"][0]["index"] for chunk in chunks[:2]] == [0, 1]
    assert sum(choice["finish_reason"] == "stop" for chunk in chunks[:-1] for choice in chunk["choices"]) == 2


@pytest.mark.parametrize("stop", ["wor", ["wor"], ["xyz", ", wo"]])
async def test_stop_strings_end_an_answer_alike_whole_and_streamed(stop: object) -> None:
    whole = (await post(FakeAgent(), CHAT, chat_body(stop=stop))).json()["choices"][0]
    chunks = await stream(FakeAgent(), stop=stop)
    assert whole["message"]["content"] == content_of(chunks) in {"Hello, ", "Hello"}
    assert whole["finish_reason"] == chunks[-2]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_the_longest_answer_may_be_named_either_way(field: str) -> None:
    choice = (await post(FakeAgent(), CHAT, chat_body(**{field: 2}))).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello,", "length")
