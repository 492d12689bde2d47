from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from updraft.errors import ConfigError, WrongTrunk
from updraft.models.gguf_info import read_vocabulary
from updraft.models.moe import folder as folders
from updraft.models.moe.folder import write_folder
from updraft.models.moe.packed import INPUT, OUTPUT, PackedMoe
from updraft.models.weights import Weights


@pytest.fixture
def folder(tmp_path: Path, trunk_path: Path, moe: PackedMoe) -> Path:
    write_folder(trunk_path, moe, tmp_path / "made")
    return tmp_path / "made"


def test_the_folder_holds_what_the_family_reads(folder: Path, trunk_path: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.gguf",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    config = json.loads((folder / "config.json").read_text())
    vocabulary = read_vocabulary(trunk_path)
    assert (config["vocab_size"], config["bos_token_id"]) == (vocabulary.tokens, vocabulary.start_token)
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == config["eos_token_id"] == max(vocabulary.end_tokens)
    assert (folder / "chat_template.jinja").read_text() == vocabulary.chat_template
    assert read_vocabulary(folder / "tokenizer.gguf", vocabulary_only=True).tokenizer_hash == vocabulary.tokenizer_hash


def test_tensors_are_those_of_the_file(folder: Path, moe: PackedMoe, trunk: Weights) -> None:
    tensors = load_file(folder / "model.safetensors")
    assert tensors.keys() == (moe.tensors.keys() - {INPUT, OUTPUT}) | {"model.embed_tokens.weight", "lm_head.weight"}
    assert {values.dtype for values in tensors.values()} == {np.dtype(np.float16)}
    embedding, output = moe.matrices(trunk)
    wanted = {**moe.tensors, "model.embed_tokens.weight": embedding, "lm_head.weight": output}
    for name, values in tensors.items():
        np.testing.assert_allclose(values, wanted[name], rtol=2**-10, atol=2**-24)


def test_a_folder_appears_whole_or_not_at_all(
    tmp_path: Path, trunk_path: Path, moe: PackedMoe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "write_gguf_tokenizer", full)
    with pytest.raises(ConfigError, match="the disk filled up"):
        write_folder(trunk_path, moe, tmp_path / "made")
    assert not list(tmp_path.iterdir())


def test_another_trunk_leaves_nothing(tmp_path: Path, trunk_path: Path, moe: PackedMoe) -> None:
    other = PackedMoe(moe.shape, "f" * 64, moe.tensors)
    with pytest.raises(WrongTrunk):
        write_folder(trunk_path, other, tmp_path / "made")
    assert not list(tmp_path.iterdir())
