"""Traces: what was decided on every token of an answer, in a file, on a page and on a terminal."""

from __future__ import annotations

__all__: list[str] = []
