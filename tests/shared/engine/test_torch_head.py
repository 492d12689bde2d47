"""Models with a score head: their labels' scores are the head's, of the hidden states that the causal model has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.hf_model import hf_config, hf_weights, write_hf_model
from updraft.engine import Run, open_engine
from updraft.engine.torch import TorchEngine
from updraft.errors import BadModelFile, ConfigError
from updraft.models.hf import open_folder

TEXT = [5, 9, 40, 7, 61]
OPTIONS: dict[str, Any] = {"context": 64, "sequences": 2, "threads": 1}
TOKEN, SEQUENCE = "LlamaForTokenClassification", "LlamaForSequenceClassification"


def head_folder(
    folder: Path, labels: int, *, bias: bool = False, architecture: str = TOKEN, width: int = 64, tied: bool = True
) -> Path:
    weights = hf_weights(hf_config("llama"))
    random = np.random.default_rng(3)
    weights["score.weight"] = random.standard_normal((labels, width)).astype(np.float32)
    if bias:
        weights["score.bias"] = random.standard_normal(labels).astype(np.float32)
    return write_hf_model(folder, weights=weights, architectures=[architecture], tie_word_embeddings=tied)


def rows_of(engine: TorchEngine) -> tuple[Any, Any]:
    sequence = engine.open()
    [output] = engine.forward([Run(sequence, 0, TEXT, 3, hidden=True)])
    assert output.hidden is not None
    return output.logits.copy(), output.hidden.copy()


@pytest.mark.parametrize(("labels", "bias"), [(1, False), (1, True), (2, True), (3, False)])
def test_scores_are_the_heads(labels: int, bias: bool, tmp_path: Path) -> None:
    causal = TorchEngine(write_hf_model(tmp_path / "causal"), **OPTIONS)
    folder = head_folder(tmp_path / "head", labels, bias=bias)
    head = TorchEngine(folder, head=True, **OPTIONS)
    scores, states = rows_of(head)
    np.testing.assert_array_equal(states, rows_of(causal)[1])
    random = np.random.default_rng(3)
    expected = states @ random.standard_normal((labels, 64)).astype(np.float32).T
    if bias:
        expected = expected + random.standard_normal(labels).astype(np.float32)
    if labels == 1:  # softmax over two is the sigmoid of the one
        expected = np.concatenate([np.zeros_like(expected), expected], axis=1)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    for engine in (causal, head):
        engine.shutdown()


def test_both_of_hugging_faces_classes_are_read_and_an_output_matrix_is_not_needed(tmp_path: Path) -> None:
    for number, architecture in enumerate((TOKEN, SEQUENCE)):
        folder = head_folder(tmp_path / str(number), 1, architecture=architecture, tied=False)
        assert open_folder(folder, head=True).head


def test_a_head_is_not_taken_for_a_model_that_writes_nor_the_other_way(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="ForTokenClassification"):
        open_folder(head_folder(tmp_path / "head", 1))
    with pytest.raises(BadModelFile, match="a model with a score head"):
        open_folder(write_hf_model(tmp_path / "causal"), head=True)


def test_a_head_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match=r"score.weight of the shape \(1, 32\)"):
        open_folder(head_folder(tmp_path / "head", 1, width=32), head=True)


def test_another_backend_has_no_heads(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="head"):
        open_engine(head_folder(tmp_path / "head", 1), backend="llama", head=True)


async def test_a_reward_model_of_such_a_folder_judges(tmp_path: Path) -> None:
    from updraft.verifiers import Claim, Resources, open_verifier
    from updraft.verifiers.reward_model import RewardSource, open_reward

    folder = head_folder(tmp_path / "head", 1, bias=True)
    source = RewardSource(model=str(folder), head=True, context=256, options={"threads": 1})
    model = open_reward(source)
    try:
        verifier = open_verifier("reward", Resources(rewards={"prm": model}))
        [judgement] = await verifier.judge([Claim("What is it?", (), (), "a step\n\nand another")])
        engine = TorchEngine(folder, head=True, context=256, threads=1)
        text = [*model._start("What is it?")]
        for step in ("a step", "and another"):
            text += [*engine.tokenizer.encode(step), *engine.tokenizer.encode("\n\n", special=True)]
        [output] = engine.forward([Run(engine.open(), 0, text, 1)])
        assert judgement.score == pytest.approx(1 / (1 + np.exp(-float(output.logits[0][1]))), abs=1e-6)
        engine.shutdown()
    finally:
        model.close()
