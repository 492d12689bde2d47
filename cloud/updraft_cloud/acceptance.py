"""Acceptance rules: how much of a draft stands."""

from __future__ import annotations

from typing import Protocol

from updraft.sampling import Sampled

__all__ = ["AcceptanceRule", "Lossless"]


class AcceptanceRule(Protocol):
    """Judges one drafted token against what the cloud's model drew at the same position."""

    def accepts(self, drafted: int, sampled: Sampled) -> bool: ...


class Lossless:
    """A drafted token stands if it is the token that the cloud's model draws itself.

    With coupled sampling this is exact at any temperature: the text is the one the cloud would have written alone.
    """

    def accepts(self, drafted: int, sampled: Sampled) -> bool:
        return drafted == sampled.token
