"""Where a step of an answer ends: at the first blank line after text (SpecReason, arXiv 2504.07891)."""

from __future__ import annotations

import re

__all__ = ["StepText"]

_BLANK_LINE = re.compile(rb"\S[^\n]*\n[ \t\r\f\v]*\n")


class StepText:
    """The text of a step as it grows, token by token; a blank line may come in several pieces."""

    def __init__(self) -> None:
        self._text = b""
        self.ended = False

    @property
    def text(self) -> bytes:
        return self._text

    @property
    def empty(self) -> bool:
        """Nothing but white space so far."""
        return not self._text.strip()

    def feed(self, piece: bytes) -> bool:
        """Add a token's bytes; whether the step has ended, which it does with the token that completes the line."""
        self._text += piece
        if b"\n" in piece and not self.ended:
            self.ended = _BLANK_LINE.search(self._text) is not None
        return self.ended
