"""The token log: what both tiers know of a session, and a rolling hash to check that they agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["TokenLog"]

_PRIME = 0x01000193
_START = 0x811C9DC5
_MASK = 0xFFFFFFFF


class TokenLog:
    """Prompt and answer token ids with a 32-bit rolling hash of every prefix.

    The hash is FNV-1a over whole ids: it finds logs that have drifted apart, it does not withstand an attacker
    (who could only spoil a session of its own).
    """

    def __init__(self, prompt: Sequence[int], generated: Iterable[int] = ()) -> None:
        self.tokens: list[int] = []
        self._hashes = [_START]
        self.extend(prompt)
        self.prompt_length = len(self.tokens)
        self.extend(generated)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def hash(self) -> int:
        """Hash of the whole log."""
        return self._hashes[-1]

    @property
    def generated(self) -> list[int]:
        """Token ids of the answer."""
        return self.tokens[self.prompt_length :]

    @property
    def generated_length(self) -> int:
        return len(self.tokens) - self.prompt_length

    def extend(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            self.tokens.append(token)
            self._hashes.append(_step(self._hashes[-1], token))

    def hash_with(self, tokens: Iterable[int]) -> int:
        """What `hash` would be after these tokens."""
        value = self._hashes[-1]
        for token in tokens:
            value = _step(value, token)
        return value

    def truncate(self, length: int) -> None:
        """Forget tokens from `length` on; the prompt always stays."""
        if not self.prompt_length <= length <= len(self.tokens):
            raise ValueError(f"length {length} is outside {self.prompt_length}..{len(self.tokens)}")
        del self.tokens[length:]
        del self._hashes[length + 1 :]


def _step(value: int, token: int) -> int:
    return ((value ^ token) * _PRIME) & _MASK
