from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.shared.train.laboratory.conftest import TINY
from updraft.chat_template import ChatTemplate
from updraft.engine import open_engine
from updraft.engine.base import Engine, Run
from updraft.engine.exactness import check_exactness
from updraft.errors import BadModelFile
from updraft.laboratory.task import problems, prompt, worked
from updraft.laboratory.vocabulary import CHAT_TEMPLATE, END, RIGHT, WRONG, decode, encode
from updraft.models import read_model_info
from updraft.train.laboratory.export import write_gguf, write_score_folder
from updraft.train.laboratory.model import LabModel, lab_shape, read_lab_model
from updraft.train.laboratory.reward import Rollout, judged_example, step_scores

PROBLEM = problems("test", 1, steps=[4])[0]
ANSWER = worked(PROBLEM, random.Random(0))


def opened(path: Path) -> Engine:
    return open_engine(path, context=128, sequences=4, threads=1)


def test_the_file_says_what_it_is(gguf: Path, model: LabModel, tmp_path: Path) -> None:
    info = read_model_info(gguf)
    assert (info.layers, info.width, info.context_length, info.quantisation) == (2, 32, 2048, "Q8_0")
    assert info.end_tokens == {END} and info.chat_template == CHAT_TEMPLATE
    write_gguf(LabModel(lab_shape(1, 64, 96), 0), "other", tmp_path / "other.gguf")
    other = read_model_info(tmp_path / "other.gguf")
    assert other.tokenizer_hash == info.tokenizer_hash and other.fingerprint != info.fingerprint
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other.gguf", "tiny.gguf"]


def test_weights_come_back_but_for_eight_bits(gguf: Path, model: LabModel) -> None:
    again = read_lab_model(gguf)
    assert replace(again.shape, norm_epsilon=1e-5) == model.shape  # the file has it in float32
    for (name, found), expected in zip(again.named_parameters(), model.parameters(), strict=True):
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= expected.abs().max() / 127, name
    tokens = torch.tensor([encode(prompt(PROBLEM) + ANSWER)])
    with torch.inference_mode():
        assert (again(tokens) - model(tokens)).abs().max() < 0.5 * model(tokens).std()


def test_the_engine_computes_what_torch_does(gguf: Path) -> None:
    model, tokens = read_lab_model(gguf), encode(prompt(PROBLEM) + ANSWER)
    engine = opened(gguf)
    try:
        (output,) = engine.forward([Run(engine.open(), 0, tokens, rows=len(tokens))])
        with torch.inference_mode():
            expected = model(torch.tensor([tokens]))[0].numpy()
        difference = np.abs(output.logits - expected)  # llama.cpp rounds activations, too
        assert difference.max() < 0.2 * expected.std() and difference.mean() < 0.02 * expected.std()
    finally:
        engine.shutdown()


def test_batching_is_exact(gguf: Path) -> None:
    engine = opened(gguf)
    try:
        assert check_exactness(engine).exact
    finally:
        engine.shutdown()


def test_the_engine_reads_text_as_training_does(gguf: Path) -> None:
    engine = opened(gguf)
    try:

        @given(st.text(max_size=40).filter(lambda text: "\0" not in text))
        def check(text: str) -> None:
            tokens = engine.tokenizer.encode(text)
            assert tokens == encode(text)
            assert b"".join(map(engine.tokenizer.piece, tokens)).decode() == text == decode(tokens)

        check()
        read = engine.tokenizer.encode("<|end|><|right|><|wrong|>", special=True)
        assert read == [END, RIGHT, WRONG] and decode(read) == ""
        assert all(engine.tokenizer.piece(token) == b"" for token in read)
        assert len(engine.tokenizer.encode("<|right|>")) == 9  # a user cannot write a verdict
    finally:
        engine.shutdown()


def test_a_chat_is_its_last_message() -> None:
    messages = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": PROBLEM.text}]
    assert ChatTemplate(CHAT_TEMPLATE).render(messages) == prompt(PROBLEM)


def test_another_vocabulary_is_refused(tiny_model_path: Path) -> None:
    with pytest.raises(BadModelFile, match="320 tokens"):
        read_lab_model(tiny_model_path)


def test_a_score_head_gives_the_same_scores(gguf: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "made" / "reward"
    write_score_folder(gguf, folder)
    write_score_folder(gguf, folder)  # over it
    head = transformers.LlamaForTokenClassification.from_pretrained(folder).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    rollout = Rollout(PROBLEM, ANSWER)
    tokens = tokenizer(prompt(PROBLEM) + ANSWER)["input_ids"]
    assert tokens == judged_example(rollout)[0]
    with torch.inference_mode():
        scores = torch.sigmoid(head(torch.tensor([tokens])).logits[0, :, 0]).numpy()
    ends = [place for place, token in enumerate(tokens) if token == encode("\n")[0]]
    assert scores[ends[1:]] == pytest.approx(step_scores(read_lab_model(gguf), [rollout])[0], abs=1e-5)
    assert head.config.num_labels == 1 and TINY.width == head.score.in_features
