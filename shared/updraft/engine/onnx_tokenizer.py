"""The tokenizer of a folder: of a vocabulary-only GGUF by llama.cpp, of a tokenizer.json by `tokenizers`."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any, Protocol

from updraft.engine.base import Tokenizer
from updraft.engine.llama_tokenizer import MAX_TEXT_BYTES, LlamaTokenizer
from updraft.errors import BadModelFile, InvalidRequest, MissingExtra, RequestTooLarge

__all__ = ["JsonTokenizer", "StagedTokenizer", "VocabularyTokenizer", "load_tokenizer"]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class StagedTokenizer(Tokenizer, Protocol):
    """A tokenizer without an engine under it."""

    def end_tokens(self) -> frozenset[int]:
        """Tokens that it takes for the end of an answer, as far as it knows."""
        ...

    def shutdown(self) -> None: ...


def load_tokenizer(path: Path, vocabulary: int) -> StagedTokenizer:
    """The tokenizer in a file of a checked folder, whose model gives logits of `vocabulary` tokens.

    The suffix says which kind it is.

    Raises:
        BadModelFile: it cannot be read.
        MissingExtra: its library is not installed.
    """
    return VocabularyTokenizer(path, vocabulary) if path.suffix == ".gguf" else JsonTokenizer(path, vocabulary)


class VocabularyTokenizer(LlamaTokenizer):
    """llama.cpp's tokenizer on a model of its own, loaded without tensors."""

    def __init__(self, path: Path, vocabulary: int) -> None:
        from updraft.engine.llama_native import library, load_model

        self._model: Any = load_model(path, 0, vocabulary_only=True)
        super().__init__(library().llama_model_get_vocab(self._model))
        if self.vocabulary != vocabulary:
            self.shutdown()
            raise BadModelFile(f"{path} has {self.vocabulary} tokens; its model has {vocabulary}")

    def shutdown(self) -> None:
        super().shutdown()
        if self._model is not None:
            self._lib.llama_model_free(self._model)
        self._model = None


class JsonTokenizer:
    """A Hugging Face tokenizer.json: byte-level BPE, or pieces with byte fallback (SentencePiece's way)."""

    def __init__(self, path: Path, vocabulary: int) -> None:
        try:
            from tokenizers import Tokenizer as Native
        except ImportError as error:
            raise MissingExtra(
                f"a tokenizer.json needs the package tokenizers, which could not be imported: {error}",
                remedy='pip install "updraft-llm[onnx]" or "updraft-llm[torch]", for the engine that you use',
            ) from error
        try:
            self._native = Native.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise BadModelFile(f"{path} is not a tokenizer: {error}") from None
        size = max(self._native.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        if size > vocabulary:
            raise BadModelFile(f"{path} has {size} tokens; its model has {vocabulary}")
        self._vocabulary = vocabulary  # models are often padded past the tokenizer's last token
        self._pieces: list[bytes] | None = None

    def encode(self, text: str, *, special: bool = False, start: bool = False) -> list[int]:
        """As `LlamaTokenizer.encode`; `start` adds what the file's post-processor puts before a text."""
        if len(text) > MAX_TEXT_BYTES or len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
            raise RequestTooLarge(f"text of {len(text)} characters; the limit is {MAX_TEXT_BYTES} bytes")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"text is not valid Unicode: lone surrogate at index {error.start}") from None
        self._native.encode_special_tokens = not special
        plain: list[int] = self._native.encode(text, add_special_tokens=False).ids
        return [*self._start(), *plain] if start else plain

    def piece(self, token: int) -> bytes:
        pieces = self._pieces if self._pieces is not None else self._read_pieces()
        if not 0 <= token < len(pieces):
            raise InvalidRequest(f"token {token} is not in the vocabulary of {len(pieces)} tokens")
        return pieces[token]

    def written(self, token: int) -> str:
        piece = self.piece(token)
        return piece.decode("utf-8", "replace") if piece else str(self._native.id_to_token(token) or "")

    def end_tokens(self) -> frozenset[int]:
        return frozenset()

    def shutdown(self) -> None:
        """Nothing native is held."""

    def _start(self) -> list[int]:
        """What the file's post-processor puts before a text, such as BOS."""
        framed = self._native.encode("a", add_special_tokens=True)
        count = next((place for place, mask in enumerate(framed.special_tokens_mask) if not mask), 0)
        start: list[int] = framed.ids[:count]
        return start

    def _read_pieces(self) -> list[bytes]:
        bytes_of = _byte_level if _is_byte_level(self._native.to_str()) else _sentence_piece
        words = self._native.get_vocab(with_added_tokens=True)
        added = self._native.get_added_tokens_decoder()
        pieces = [b""] * self._vocabulary
        for word, token in words.items():
            if token not in added:
                pieces[token] = bytes_of(word)
            elif not added[token].special:
                pieces[token] = word.encode()
        self._pieces = pieces
        return pieces


def _is_byte_level(definition: str) -> bool:
    """Whether pieces are written in GPT-2's alphabet, in which a letter stands for a byte."""
    decoder = json.loads(definition).get("decoder") or {}
    return any(part.get("type") == "ByteLevel" for part in (decoder, *decoder.get("decoders", ())))


def _byte_level(word: str) -> bytes:
    try:
        return bytes(_letters()[letter] for letter in word)
    except KeyError:  # added by hand, not from the alphabet
        return word.encode()


def _sentence_piece(word: str) -> bytes:
    if byte := _BYTE.fullmatch(word):
        return bytes([int(byte[1], 16)])
    return word.replace("\u2581", " ").encode()


@functools.cache
def _letters() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for letters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
