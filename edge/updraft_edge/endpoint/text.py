"""Text of an endpoint as token ids of the edge's tokenizer, byte for byte."""

from __future__ import annotations

from updraft.engine.base import Tokenizer
from updraft.errors import CloudUnavailable

__all__ = ["TextEncoder", "Unrepeated"]

_LONGEST_WORD = 64  # characters; a longer one is cut, so that text flows


class TextEncoder:
    """Encodes text as it comes. The pieces of all tokens joined are the text's bytes.

    The last word is held back until it is whole, so that it gets the tokens that it would have in the whole text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._held = ""

    def feed(self, text: str) -> list[int]:
        """Tokens of the words that are whole now. Raises CloudUnavailable where the tokenizer has none for them."""
        self._held += text
        end = _last_word(self._held)
        if len(self._held) - end > _LONGEST_WORD:
            end = len(self._held)
        whole, self._held = self._held[:end], self._held[end:]
        return self._encode(whole)

    def flush(self) -> list[int]:
        """Tokens of what is held back."""
        whole, self._held = self._held, ""
        return self._encode(whole)

    def _encode(self, text: str) -> list[int]:
        if not text:
            return []
        wanted = text.encode()
        if (tokens := self._exact(text, wanted)) is not None:
            return tokens
        if len(text) > 1:  # some character in it is at fault: the others need not suffer
            middle = len(text) // 2
            return self._encode(text[:middle]) + self._encode(text[middle:])
        raise CloudUnavailable(
            f"The edge's tokenizer cannot write U+{ord(text):04X}.",
            remedy="Use an edge model whose tokenizer falls back to bytes.",
        )

    def _exact(self, text: str, wanted: bytes) -> list[int] | None:
        """Tokens with exactly these bytes. Some tokenizers put a space before a text, but not after a line break."""
        tokens = self._tokenizer.encode(text)
        if self._bytes(tokens) == wanted:
            return tokens
        tokens = self._tokenizer.encode("\n" + text)
        for start in range(1, len(tokens)):
            if self._bytes(tokens[start:]) == wanted:
                return tokens[start:]
        return None

    def _bytes(self, tokens: list[int]) -> bytes:
        return b"".join(map(self._tokenizer.piece, tokens))


def _last_word(text: str) -> int:
    """Where the last word begins, with the white space before it."""
    words = text.split()
    return len(text.rstrip().removesuffix(words[-1]).rstrip()) if words else 0


class Unrepeated:
    """Leaves out the answer so far where a continuation begins by repeating all of it.

    Args:
        so_far: the answer so far; one of less than 16 characters may well come twice.
    """

    def __init__(self, so_far: str) -> None:
        self._so_far = so_far.strip() if len(so_far.strip()) >= 16 else ""
        self._held = ""

    def feed(self, text: str) -> str:
        """Text that is certain to be new."""
        if not self._so_far:
            return text
        self._held += text
        begun = self._held.lstrip()
        if self._so_far.startswith(begun) and begun != self._so_far:
            return ""
        return self.flush()

    def flush(self) -> str:
        """What is held back, once nothing more comes."""
        begun = self._held.lstrip()
        new = begun[len(self._so_far) :] if self._so_far and begun.startswith(self._so_far) else self._held
        self._so_far = self._held = ""
        return new
