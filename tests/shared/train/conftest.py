"""A tiny trunk, text for it, and what it thinks of that text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fakes.tiny_model import write_tiny_model
from updraft.models.weights import Weights, read_weights
from updraft.train.conversations import Conversation
from updraft.train.teacher import TeacherCache, cache_teacher

CPU = torch.device("cpu")
PREFIX = (1, 20, 30)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trunk_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 layers in Q8_0."""
    return write_tiny_model(tmp_path_factory.mktemp("trunk") / "tiny.gguf", layers=4, context=512)


@pytest.fixture(scope="session")
def weights(trunk_path: Path) -> Weights:
    return read_weights(trunk_path)


def conversations(count: int, *, seed: int = 0, longest: int = 40) -> list[Conversation]:
    """Random tokens; every prompt begins with `PREFIX`; sorted by length, as training wants them."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        prompt = (*PREFIX, *random.integers(3, 291, random.integers(1, 6)).tolist())
        made.append(Conversation(prompt, tuple(random.integers(3, 291, random.integers(4, longest)).tolist())))
    return sorted(made, key=lambda c: len(c.prompt) + len(c.response))


def write_lines(path: Path, text: Sequence[Conversation]) -> Path:
    lines = [json.dumps({"prompt": c.prompt, "response": c.response}) for c in text]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory, weights: Weights) -> TeacherCache:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("training")
    return cache_teacher(folder, weights, conversations(120), [1, 2], device=CPU)


@pytest.fixture(scope="session")
def held_out(tmp_path_factory: pytest.TempPathFactory, weights: Weights) -> TeacherCache:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("held-out")
    return cache_teacher(folder, weights, conversations(20, seed=1), [1, 2], device=CPU)
