"""Tokenizers of staged folders that came from Hugging Face: byte-level BPE, and pieces with byte fallback."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from updraft.engine.onnx_tokenizer import JsonTokenizer, VocabularyTokenizer, load_tokenizer
from updraft.errors import BadModelFile, InvalidRequest, MissingExtra, RequestTooLarge

tokenizers = pytest.importorskip("tokenizers")

TEXTS = ["the cat and the hat", "\u00e9\u00df \U0001f600 \n\ttabs", "  spaces  ", "<|im_start|>user", ""]
SPECIALS = ["<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As GPT-2, Llama 3, Qwen and SmolLM2 have them; puts <|im_start|> before a text where that is asked for."""
    native = tokenizers.Tokenizer(tokenizers.models.BPE())
    native.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    native.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIALS, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    native.train_from_iterator(TEXTS, trainer)
    native.add_tokens(["added"])
    native.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", 0), ("<|im_end|>", 1)]
    )
    return _saved(native, tmp_path_factory.mktemp("tokenizers") / "bytes.json")


@pytest.fixture(scope="module")
def sentence_pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Llama 2 and Mistral have them."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"abcdefgh", "\u2581the"]
    merges = [("\u2581", "t"), ("\u2581t", "h"), ("\u2581th", "e")]
    vocabulary = {word: place for place, word in enumerate([*words, "t", "\u2581t", "\u2581th"])}
    model = tokenizers.models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>")
    native = tokenizers.Tokenizer(model)
    native.normalizer = tokenizers.normalizers.Replace(" ", "\u2581")
    decoders = tokenizers.decoders
    native.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _saved(native, tmp_path_factory.mktemp("tokenizers") / "pieces.json")


def _saved(native: object, path: Path) -> Path:
    native.save(str(path))  # type: ignore[attr-defined]
    return path


def _text(tokenizer: JsonTokenizer, tokens: list[int]) -> bytes:
    return b"".join(map(tokenizer.piece, tokens))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_pieces_add_up_to_the_text(byte_level: Path, sentence_pieces: Path, text: str) -> None:
    for path in (byte_level, sentence_pieces):
        tokenizer = load_tokenizer(path, 400)
        assert isinstance(tokenizer, JsonTokenizer)
        expected = text.encode() if path is byte_level else text.replace("\u2581", " ").encode()
        assert _text(tokenizer, tokenizer.encode(text)) == expected


def test_control_tokens_are_read_only_where_asked_and_add_no_text(byte_level: Path) -> None:
    tokenizer = JsonTokenizer(byte_level, 400)
    plain, special = (tokenizer.encode("<|im_start|>the", special=special) for special in (False, True))
    assert 0 not in plain
    assert special[0] == 0
    assert _text(tokenizer, plain) == b"<|im_start|>the"
    assert _text(tokenizer, special) == b"the"
    assert _text(tokenizer, tokenizer.encode("added", special=True)) == b"added"


def test_start_adds_what_stands_before_a_text_and_not_what_stands_after(
    byte_level: Path, sentence_pieces: Path
) -> None:
    tokenizer = JsonTokenizer(byte_level, 400)
    assert tokenizer.encode("the", start=True) == [0, *tokenizer.encode("the")]
    tokenizer = JsonTokenizer(sentence_pieces, 400)
    assert tokenizer.encode("the", start=True) == tokenizer.encode("the")


def test_bad_text_and_tokens_are_refused(byte_level: Path) -> None:
    tokenizer = JsonTokenizer(byte_level, 400)
    with pytest.raises(InvalidRequest, match="index 1"):
        tokenizer.encode("a\ud800")
    for text in ("a" * ((8 << 20) + 1), "\u20ac" * (3 << 20)):
        with pytest.raises(RequestTooLarge):
            tokenizer.encode(text)
    assert tokenizer.piece(399) == b""  # padding of the model's vocabulary
    for token in (400, -1):
        with pytest.raises(InvalidRequest, match=str(token)):
            tokenizer.piece(token)


def test_what_is_no_tokenizer_or_too_large_is_refused(
    byte_level: Path, tmp_path: Path, staged_model_path: Path
) -> None:
    odd = tmp_path / "tokenizer.json"
    odd.write_text("{}")
    with pytest.raises(BadModelFile, match="tokenizer.json"):
        load_tokenizer(odd, 400)
    with pytest.raises(BadModelFile, match="its model has 200"):
        load_tokenizer(byte_level, 200)
    with pytest.raises(BadModelFile, match="320 tokens; its model has 321"):
        VocabularyTokenizer(staged_model_path / "tokenizer.gguf", 321)


def test_a_missing_library_is_named(byte_level: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtra, match="tokenizers"):
        load_tokenizer(byte_level, 400)
