"""The vocabulary that the laboratory's models share: a token a byte, the end of an answer, and two verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["CHAT_TEMPLATE", "END", "MERGES", "RIGHT", "TOKENS", "WRONG", "decode", "encode"]

END: Final = 0
RIGHT: Final = 1
"""What the reward model expects after a step whose prefix is right; never in a text."""
WRONG: Final = 2

_CONTROL: Final = ("<|end|>", "<|right|>", "<|wrong|>")
_PRINTABLE: Final = frozenset((*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)))

CHAT_TEMPLATE: Final = "{{ messages[-1]['content'] }}\n"
"""The last message is the problem."""


def _letters() -> tuple[str, ...]:
    """The letter that stands for each byte in GPT-2's vocabulary: printable ones for themselves, others from U+0100."""
    extra = iter(range(256))
    return tuple(chr(byte if byte in _PRINTABLE else 256 + next(extra)) for byte in range(256))


MERGES: Final = ("ÿ ÿ",)
"""llama.cpp asks for one at least: of a byte that is never in a text."""
TOKENS: Final = (*_CONTROL, *_letters(), "ÿÿ")
"""By id, as a GGUF names them."""


def encode(text: str) -> list[int]:
    return [len(_CONTROL) + byte for byte in text.encode()]


def decode(tokens: Sequence[int]) -> str:
    """Without control tokens."""
    first = len(_CONTROL)
    return bytes(token - first for token in tokens if first <= token < first + 256).decode(errors="replace")
