from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.shared.train.conftest import conversations
from tests.shared.train.moe.conftest import rhymes
from updraft.engine import open_engine
from updraft.engine.base import Engine
from updraft.models.weights import Weights
from updraft.train.conversations import Conversation
from updraft.train.llama import of_trunk
from updraft.train.moe.measure import (
    Unigrams,
    draft_agreement,
    engine_loss,
    greedy_answers,
    losses,
    some_of,
)
from updraft.train.moe.model import Mixtral


@pytest.fixture(scope="module")
def engine(trunk_path: Path) -> Engine:
    return open_engine(trunk_path, context=128, sequences=1, threads=1)


def _trunk_logits(weights: Weights, tokens: np.ndarray) -> Tensor:
    table = torch.from_numpy(weights["model.embed_tokens.weight"])
    with torch.inference_mode():
        final: Tensor = of_trunk(weights)(table[tokens][None])[0]
        return final @ torch.from_numpy(weights.output).T


def test_an_engine_s_loss_is_its_model_s(engine: Engine, weights: Weights) -> None:
    text = [conversations(40, longest=100)[-1], Conversation((), (5, 9, 11))]
    assert len(text[0].tokens) > 60  # more than one run
    wanted = [
        torch.nn.functional.cross_entropy(
            _trunk_logits(weights, c.tokens[:-1]), torch.from_numpy(c.tokens[1:].astype(np.int64)), reduction="sum"
        )
        for c in text
    ]
    count = sum(len(c.tokens) - 1 for c in text)
    assert engine_loss(engine, text) == pytest.approx(float(sum(wanted)) / count, rel=0.02)
    assert engine.open() == 0  # all sequences were closed
    engine.close(0)


def test_unigrams() -> None:
    counts = np.array([6, 0, 0])
    loss = Unigrams(counts).loss([Conversation((0,), (0, 1))])
    assert loss == pytest.approx(-(np.log(7 / 9) + np.log(1 / 9)) / 2)


def test_all_losses_together(model: Mixtral, table: Tensor, engine: Engine) -> None:
    text = rhymes(3)
    found = losses(model, table, engine, Unigrams(np.ones(len(table), np.int64)), text)
    assert found["tokens"] == sum(len(c.tokens) - 1 for c in text)
    assert found["unigrams"] == pytest.approx(np.log(len(table)))
    assert found["trunk"] == engine_loss(engine, text) and found["model"] > 0


def test_some_of_a_text() -> None:
    text = [Conversation((), (n,) * 10) for n in range(100)]
    assert [c.response[0] for c in some_of(text, 200)] == list(range(0, 100, 5))
    assert some_of(text, 10_000) == text


def test_greedy_answers_are_the_model_s_own(model: Mixtral, table: Tensor) -> None:
    prompts = [(5, 6, 7), (100,), (30, 40)]
    answers = greedy_answers(model, table, prompts, length=6, ends=frozenset())
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.prompt == prompt and len(answer.response) == 6
        with torch.inference_mode():
            final, _ = model(table[answer.tokens[:-1]][None])
            best = model.logits(final[0], table).argmax(-1)
        assert best[len(prompt) - 1 :].tolist() == list(answer.response)
    end = answers[0].response[2]
    ended = greedy_answers(model, table, prompts, length=6, ends=frozenset({end}))
    first = answers[0].response.index(end)
    assert ended[0].response == answers[0].response[: first + 1]


def test_a_drafter_agrees_with_itself(engine: Engine, weights: Weights) -> None:
    prompt, tokens = (1, 20, 30), [1, 20, 30]
    for _ in range(5):
        tokens.append(int(_trunk_logits(weights, np.array(tokens))[-1].argmax()))
    own = Conversation(prompt, tuple(tokens[3:]))
    assert draft_agreement(engine, [own]) == 1
    other = Conversation(prompt, (*own.response[:-1], (own.response[-1] + 1) % 320))
    assert draft_agreement(engine, [own, other]) == 0.9
