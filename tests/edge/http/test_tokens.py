"""`/tokenize`, `/detokenize` and `/tokenizer_info`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.http.clients import app_of, client_of, post
from tests.fakes.generator import FakeAgent


async def test_a_text_becomes_tokens_and_a_text_again() -> None:
    response = await post(FakeAgent(), "/tokenize", {"prompt": "h\u00e9", "add_special_tokens": False})
    assert response.json() == {"tokens": [104, 195, 169], "count": 3, "max_model_len": 2048}
    response = await post(FakeAgent(), "/detokenize", {"tokens": [104, 195, 169], "model": "fake-pair"})
    assert response.json() == {"prompt": "h\u00e9"}


async def test_the_tokenizer_tells_its_end_token() -> None:
    async with client_of(app_of(FakeAgent())) as client:
        assert (await client.get("/tokenizer_info")).json()["eos_token"] == "<end>"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/tokenize", {}, 400),
        ("/tokenize", {"prompt": 5}, 400),
        ("/tokenize", {"prompt": "x", "messages": []}, 400),
        ("/tokenize", {"prompt": "x", "model": "other"}, 404),
        ("/detokenize", {"tokens": [10**6]}, 400),
        ("/detokenize", {"tokens": ["a"]}, 400),
        ("/detokenize", {"tokens": [True]}, 400),
    ],
)
async def test_other_bodies_are_refused(path: str, body: dict[str, Any], status: int) -> None:
    response = await post(FakeAgent(), path, body)
    assert response.status_code == status, response.text
    assert response.json()["error"]["message"]
