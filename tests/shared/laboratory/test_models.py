"""The shipped models do what their cards say: loose bounds, on few problems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import house
from updraft.engine import open_engine
from updraft.engine.base import Engine, Run
from updraft.engine.exactness import check_exactness
from updraft.errors import ModelNotFound
from updraft.laboratory import models
from updraft.laboratory.models import LABORATORY, shipped_laboratory
from updraft.laboratory.task import Problem, parse_answer, problems, prompt
from updraft.laboratory.vocabulary import END, encode
from updraft.models import catalog, read_model_info, resolve
from updraft.train.laboratory.measure import judgement
from updraft.train.laboratory.model import read_lab_model
from updraft.train.laboratory.reward import Rollout
from updraft.train.laboratory.rollouts import answers

PROBLEMS = problems("test", 42, seed=11)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small only lose by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["lab-edge", "lab-cloud"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    opened = open_engine(request.param, context=256, sequences=4, threads=1)
    yield opened
    opened.shutdown()


def greedy(engine: Engine, problem: Problem) -> str:
    sequence, text = engine.open(), b""
    tokens = encode(prompt(problem))
    while len(text) < 64:
        (output,) = engine.forward([Run(sequence, engine.length(sequence), tokens, rows=1)])
        token = int(output.logits[-1].argmax())
        if token == END:
            break
        text, tokens = text + engine.tokenizer.piece(token), [token]
    engine.close(sequence)
    return text.decode()


def test_the_engine_writes_what_torch_writes(engine: Engine) -> None:
    """But for near-ties: llama.cpp rounds activations to 8 bits."""
    written = [greedy(engine, problem) for problem in PROBLEMS]
    expected = answers(read_lab_model(resolve(engine.info.name)), PROBLEMS, 0.0)
    assert np.mean([one == other for one, other in zip(written, expected, strict=True)]) > 0.85
    right = np.mean([parse_answer(text) == problem.answer for text, problem in zip(written, PROBLEMS, strict=True)])
    low, high = {"lab-edge": (0.3, 0.75), "lab-cloud": (0.5, 0.95)}[engine.info.name]
    assert low < right < high


def test_batching_is_exact(engine: Engine) -> None:
    assert check_exactness(engine).exact


def test_rewards_tell_right_from_wrong_steps() -> None:
    """Of the edge's answers; far from perfectly, as the card says."""
    texts = answers(read_lab_model(resolve("lab-edge")), PROBLEMS, 1.0, seed=5)
    steps, _ = judgement(read_lab_model(resolve("lab-reward")), list(map(Rollout, PROBLEMS, texts)))
    assert steps.auc is not None and 0.75 < steps.auc < 0.999
    assert steps.false_positives is not None and 0.01 < steps.false_positives < 0.95


def test_they_are_in_the_catalogue() -> None:
    entries = {entry.name: entry for entry in catalog()}
    for name in LABORATORY:
        assert entries[name].available and entries[name].path == resolve(name) == shipped_laboratory(name)
        assert entries[name].licence == "Apache-2.0"
    infos = [read_model_info(resolve(name)) for name in LABORATORY]
    assert len({info.tokenizer_hash for info in infos}) == 1 and {info.architecture for info in infos} == {"llama"}
    assert sum(resolve(name).stat().st_size for name in LABORATORY) < 12e6


def test_an_installation_without_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(models, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(ModelNotFound, match="lab-cloud"):
        resolve("lab-cloud")
    assert not {entry.name: entry for entry in catalog()}["lab-cloud"].available


def test_the_task_needs_no_model_library() -> None:
    code = "import updraft.laboratory.task, updraft.laboratory.models, updraft.laboratory.vocabulary"
    assert house.loaded_by(code, {"torch", "llama_cpp", "numpy"}) == set()
