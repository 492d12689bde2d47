from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.fakes.tiny_moe import TINY_MOE
from updraft.models.moe.shape import MixtralShape
from updraft.models.weights import Weights
from updraft.train.conversations import Conversation
from updraft.train.moe.loop import MoeRecipe
from updraft.train.moe.model import Mixtral

RECIPE = MoeRecipe(steps=12, rows=2, warmup=2, every=4, frequent=60, sampled=40)


@pytest.fixture
def shape(weights: Weights) -> MixtralShape:
    return replace(TINY_MOE, base=replace(TINY_MOE.base, vocabulary=weights.shape.vocabulary, context=32))


@pytest.fixture(scope="session")
def table(weights: Weights) -> Tensor:
    return torch.from_numpy(weights["model.embed_tokens.weight"])


@pytest.fixture
def model(shape: MixtralShape, table: Tensor) -> Mixtral:
    return Mixtral(shape, table)


def rhymes(count: int, seed: int = 0) -> list[Conversation]:
    """Text in which the next token can be learned: each one follows from the last."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        tokens = (random.integers(3, 291) + 7 * np.arange(random.integers(10, 24))) % 288 + 3
        made.append(Conversation(tuple(tokens[:4].tolist()), tuple(tokens[4:].tolist())))
    return made


def write_questions(path: Path, count: int) -> Path:
    """As GSM8K's file."""
    lines = [
        {"question": f"the {n} in the {n % 7}", "answer": f"the <<{n}+1={n + 1}>>{n + 1} is on the {n % 7}"}
        for n in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return path
