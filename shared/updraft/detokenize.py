"""Bytes of tokens to text, as they come."""

from __future__ import annotations

import codecs

__all__ = ["StreamDecoder"]


class StreamDecoder:
    """Turns pieces of UTF-8 into text and never splits a character.

    Bytes that cannot become a character are given as U+FFFD as soon as that is certain, one for each maximal
    ill-formed part (the practice of the Unicode standard, section 3.9). The texts of all calls joined are
    `b"".join(pieces).decode("utf-8", "replace")`.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, piece: bytes) -> str:
        """The text that is complete after `piece`; may be empty."""
        return self._decoder.decode(piece)

    def flush(self) -> str:
        """What is left of an unfinished character, as U+FFFD; the decoder starts anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
