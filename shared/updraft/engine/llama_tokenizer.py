"""The tokenizer of a GGUF file, as llama.cpp runs it."""

from __future__ import annotations

import ctypes
from typing import Any

from updraft.engine.llama_native import library
from updraft.errors import EngineFailure, InvalidRequest, RequestTooLarge

__all__ = ["MAX_TEXT_BYTES", "LlamaTokenizer"]

MAX_TEXT_BYTES = 8 << 20


class LlamaTokenizer:
    """Text to token ids and back. Holds a pointer into its engine's model: unusable after `shutdown`."""

    def __init__(self, vocab: Any) -> None:
        self._lib = library()
        self._vocab: Any = vocab
        self.vocabulary: int = self._lib.llama_vocab_n_tokens(vocab)
        self._pieces: list[bytes] | None = None

    def encode(self, text: str, *, special: bool = False, start: bool = False) -> list[int]:
        """Token ids of `text`.

        Args:
            text: at most 8 MiB in UTF-8.
            special: read control tokens such as <|im_end|> in the text as tokens; False for text of a user.
            start: put the BOS token first if the model wants one.

        Raises:
            InvalidRequest: lone surrogates, which UTF-8 cannot carry.
            RequestTooLarge: the text is over the limit.
        """
        if len(text) > MAX_TEXT_BYTES:
            raise RequestTooLarge(f"text of {len(text)} characters; the limit is {MAX_TEXT_BYTES} bytes")
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"text is not valid Unicode: lone surrogate at index {error.start}") from None
        if len(data) > MAX_TEXT_BYTES:
            raise RequestTooLarge(f"text of {len(data)} bytes; the limit is {MAX_TEXT_BYTES} bytes")
        vocab, size = self._open(), len(data) + 8  # a token covers at least a byte, BOS and EOS aside
        for _ in range(2):
            buffer = (ctypes.c_int32 * size)()
            count = self._lib.llama_tokenize(vocab, data, len(data), buffer, size, start, special)
            if count >= 0:
                return buffer[:count]
            size = -count
        raise EngineFailure(f"llama.cpp could not tokenise a text of {len(data)} bytes")

    def piece(self, token: int) -> bytes:
        """The bytes that a token adds to a text; empty for control tokens.

        Raises:
            InvalidRequest: no such token.
        """
        pieces = self._pieces if self._pieces is not None else self._read_pieces()
        if not 0 <= token < len(pieces):
            raise InvalidRequest(f"token {token} is not in the vocabulary of {len(pieces)} tokens")
        return pieces[token]

    def written(self, token: int) -> str:
        """As the file names it. Raises InvalidRequest: no such token."""
        if not 0 <= token < self.vocabulary:
            raise InvalidRequest(f"token {token} is not in the vocabulary of {self.vocabulary} tokens")
        return self._read_piece(self._open(), token, special=True).decode("utf-8", "replace")

    def end_tokens(self) -> frozenset[int]:
        """All tokens that llama.cpp takes for the end of an answer."""
        is_end, vocab = self._lib.llama_vocab_is_eog, self._open()
        return frozenset(token for token in range(self.vocabulary) if is_end(vocab, token))

    def shutdown(self) -> None:
        """Keep what was read, and never touch the freed model again."""
        self._vocab = None

    def _open(self) -> Any:
        if self._vocab is None:
            raise EngineFailure("the engine of this tokenizer is shut down")
        return self._vocab

    def _read_pieces(self) -> list[bytes]:
        lib, vocab = self._lib, self._open()
        pieces = []
        for token in range(self.vocabulary):
            control = lib.llama_vocab_is_control(vocab, token)
            pieces.append(b"" if control else self._read_piece(vocab, token))
        self._pieces = pieces
        return pieces

    def _read_piece(self, vocab: Any, token: int, *, special: bool = False) -> bytes:
        size = 64
        for _ in range(2):
            buffer = ctypes.create_string_buffer(size)
            count = self._lib.llama_token_to_piece(vocab, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count
        raise EngineFailure(f"llama.cpp could not read the bytes of token {token}")
