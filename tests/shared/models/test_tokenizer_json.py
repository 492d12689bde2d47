from __future__ import annotations

import json
from pathlib import Path

import pytest
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.fakes.tiny_model import CONTROL_TOKENS, write_tiny_model
from updraft.engine import open_engine
from updraft.engine.base import Engine
from updraft.errors import BadModelFile
from updraft.models.tokenizer_json import tokenizer_json

TEXTS = (
    "The cat and the hat.",
    "  two  spaces,\n\nlines\tand tabs \r\n",
    "In 2024, 12345 + 678 = 13023; 3.14 is not 3,14",
    "it's he'll WE'RE",
    "Ärger über Straßen, naïve café, 東京, emoji 🙂🙂",
    "def f(x):\n    return x ** 2  # square\n",
    "<|im_start|>user\nthe<|im_end|>\n",
    "",
    " ",
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf", layers=1)


@pytest.fixture(scope="module")
def engine(path: Path) -> Engine:
    return open_engine(path, context=64, sequences=1, threads=1)


@pytest.fixture(scope="module")
def made(path: Path) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(tokenizer_json(path)))


@pytest.mark.parametrize("text", TEXTS)
def test_both_tokenizers_say_the_same(text: str, engine: Engine, made: Tokenizer) -> None:
    assert made.encode(text).ids == engine.tokenizer.encode(text, special=True)


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_both_tokenizers_say_the_same_of_any_text(text: str, engine: Engine, made: Tokenizer) -> None:
    ids = made.encode(text).ids
    assert ids == engine.tokenizer.encode(text, special=True)
    assert made.decode(ids, skip_special_tokens=False) == text


def test_control_tokens_are_special(made: Tokenizer) -> None:
    assert [made.token_to_id(token) for token in CONTROL_TOKENS] == [0, 1, 2]
    assert made.decode(made.encode("<|im_start|>the").ids, skip_special_tokens=True) == "the"


@pytest.mark.smollm2
def test_smollm2_too(smollm2_path: Path) -> None:
    engine = open_engine(smollm2_path, context=64, sequences=1, threads=1)
    made = Tokenizer.from_str(json.dumps(tokenizer_json(smollm2_path)))
    for text in TEXTS:
        assert made.encode(text).ids == engine.tokenizer.encode(text, special=True), text
    engine.shutdown()


@pytest.mark.parametrize(("model", "pre"), [("llama", "smollm"), ("gpt2", "deepseek-llm"), ("gpt2", None)])
def test_other_kinds_are_refused(tmp_path: Path, model: str, pre: str | None) -> None:
    writer = GGUFWriter(str(tmp_path / "a.gguf"), "llama")
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(BadModelFile, match=r"no tokenizer\.json"):
        tokenizer_json(tmp_path / "a.gguf")
